"""The questions and queries that rules are compared over, and what is measured of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from eval.ask import AnswerPlan, answer_request
from eval.by_rule import Asked
from eval.faithfulness import faithfulness
from eval.qa import row_of
from eval.qfs import SOURCE
from eval.qfs_files import Summary, SummarySet
from eval.question_set import Question
from eval.rouge import rouge
from indexes.filters import Condition, Filter
from rag.answer import AnswerResponse

QA_MEASURES = ("f1", "em", "subspan_em")
QFS_MEASURES = ("rougeL", "rouge1", "faithfulness")
"""Those that are shown, the ones that a rule is judged by first."""


def asked_questions(
    index: str, questions: Sequence[Question], known: frozenset[str], plan: AnswerPlan
) -> list[Asked]:
    """Measured as `eval.qa` does; `known` are the ids of the index' documents."""
    return [
        Asked(one.id, answer_request(index, one.text, plan), partial(_answered, one, known))
        for one in questions
    ]


def asked_summaries(
    index: str, data: SummarySet, summaries: Sequence[Summary], plan: AnswerPlan
) -> list[Asked]:
    """Measured as `eval.qfs` does: a query sees its own source only, which needs no strength."""
    if plan.min_evidence is None:
        plan = msgspec.structs.replace(plan, min_evidence=0.0)
    return [
        Asked(
            one.id,
            answer_request(
                index,
                one.query,
                plan,
                Filter(must=[Condition(field=SOURCE, match=one.source)]),
            ),
            partial(_summarised, one, data.sources[one.source]),
        )
        for one in summaries
    ]


def _answered(
    question: Question, known: frozenset[str], response: AnswerResponse
) -> dict[str, float]:
    return row_of(question, response, known).measures


def _summarised(summary: Summary, source: str, response: AnswerResponse) -> dict[str, float]:
    return rouge(response.answer, summary.references) | faithfulness(response.answer, source)

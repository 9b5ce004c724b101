"""The questions and queries that rules are compared over, and what is measured of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eval.ask import AnswerPlan
from eval.by_rule import Asked
from eval.qa import qa_requests, row_of
from eval.qfs import measures_of, qfs_requests
from eval.qfs_files import Summary, SummarySet
from eval.question_set import Question
from rag.answer import AnswerResponse

QA_MEASURES = ("f1", "em", "subspan_em")
QFS_MEASURES = ("rougeL", "rouge1", "faithfulness")
"""Those that are shown, the ones that a rule is judged by first."""


def asked_questions(
    index: str, questions: Sequence[Question], known: frozenset[str], plan: AnswerPlan
) -> list[Asked]:
    """Measured as `eval.qa` does; `known` are the ids of the index' documents."""
    requests = qa_requests(index, questions, plan)
    return [Asked(one.id, requests[one.id], partial(_answered, one, known)) for one in questions]


def asked_summaries(
    index: str, data: SummarySet, summaries: Sequence[Summary], plan: AnswerPlan
) -> list[Asked]:
    """Measured as `eval.qfs` does: a query sees its own source only, which needs no strength."""
    requests = qfs_requests(index, summaries, plan)
    return [Asked(one.id, requests[one.id], partial(measures_of, data, one)) for one in summaries]


def _answered(
    question: Question, known: frozenset[str], response: AnswerResponse
) -> dict[str, float]:
    return row_of(question, response, known).measures

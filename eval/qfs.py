"""Query-focused summaries by the service itself: ROUGE, and faithfulness to the source.

Each source is cut into passages, which are the documents of one index; a query sees its own source
only, by a filter. The service finds the passages and answers from them as it does for anyone; that
the source is the right one is given, so by default no evidence is turned down (`min_evidence` 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from eval.answer_record import answer_record
from eval.ask import Answered, AnswerPlan, answer_request, ask_all
from eval.configuration import digest_of
from eval.corpus_index import Corpus
from eval.faithfulness import faithfulness
from eval.qfs_files import Summary, SummarySet
from eval.record import DatasetFacts, RunRecord
from eval.rouge import rouge
from indexes.document import Document
from indexes.filters import Condition, Filter
from indexes.passages import PassageConfig, passage_spans
from rag.answer import AnswerRequest, AnswerResponse
from rag.progress import Progress
from rag.service import Service

SOURCE = "source"
PASSAGE = PassageConfig(max_words=200)


class SummaryRow(msgspec.Struct, frozen=True):
    """One query as it went."""

    id: str
    query: str
    summary: str
    evidence: list[str]
    measures: dict[str, float]


def passages_corpus(data: SummarySet) -> Corpus:
    """The sources' passages as documents, `source` in their metadata."""
    return Corpus(partial(_passages, data.sources))


def evaluate_qfs(
    service: Service,
    index: str,
    data: SummarySet,
    summaries: Sequence[Summary],
    plan: AnswerPlan,
    progress: Progress,
    *,
    name: str,
) -> tuple[list[SummaryRow], RunRecord]:
    """Summarise and measure: ROUGE F, best over the references, and `eval.faithfulness`.

    Raises what the service raises.
    """
    answered = ask_all(service, qfs_requests(index, summaries, plan), progress)
    return measure_qfs(service, index, data, summaries, plan, answered, name=name)


def qfs_requests(
    index: str, summaries: Sequence[Summary], plan: AnswerPlan
) -> dict[str, AnswerRequest]:
    """What is asked, by query: each of its own source."""
    plan = _any_evidence(plan)
    return {one.id: answer_request(index, one.query, plan, _only(one.source)) for one in summaries}


def measure_qfs(
    service: Service,
    index: str,
    data: SummarySet,
    summaries: Sequence[Summary],
    plan: AnswerPlan,
    answered: Answered,
    *,
    name: str,
) -> tuple[list[SummaryRow], RunRecord]:
    """Rows and record of what was answered."""
    rows = []
    for one in summaries:
        response = answered.responses[one.id]
        measures = measures_of(data, one, response)
        evidence = [hit.id for hit in response.evidence]
        rows.append(SummaryRow(one.id, one.query, response.answer, evidence, measures))
    record = answer_record(
        service,
        index,
        DatasetFacts(data.name, "", digest_of(list(summaries))),
        _any_evidence(plan),
        answered,
        {row.id: row.measures for row in rows},
        task="qfs",
        name=name,
    )
    return rows, record


def measures_of(data: SummarySet, summary: Summary, response: AnswerResponse) -> dict[str, float]:
    """ROUGE against the references, and faithfulness to the source."""
    measures = rouge(response.answer, summary.references)
    return measures | faithfulness(response.answer, data.sources[summary.source])


def _any_evidence(plan: AnswerPlan) -> AnswerPlan:
    if plan.min_evidence is not None:
        return plan
    return msgspec.structs.replace(plan, min_evidence=0.0)


def _only(source: str) -> Filter:
    return Filter(must=[Condition(field=SOURCE, match=source)])


def _passages(sources: dict[str, str]) -> Iterator[Document]:
    for source, text in sources.items():
        for number, (start, end) in enumerate(passage_spans(text, PASSAGE)):
            yield Document(f"{source}/{number:04d}", text[start:end], "", {SOURCE: source})

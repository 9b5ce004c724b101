"""End-to-end question answering: the service's answers and citations against what is known."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eval.answer_record import answer_record
from eval.ask import Answered, AnswerPlan, answer_request, ask_all
from eval.configuration import digest_of
from eval.qa_measures import Outcome, measure
from eval.question_set import Question
from eval.record import DatasetFacts, RunRecord
from rag.answer import AnswerRequest, AnswerResponse
from rag.progress import Progress
from rag.service import Service


class CitedText(msgspec.Struct, frozen=True):
    """A stretch of a document that the answer cites."""

    id: str
    text: str


class AnswerRow(msgspec.Struct, frozen=True):
    """One question as it went: what was answered, what is accepted, and the measures."""

    id: str
    question: str
    status: str
    answer: str
    accepted: tuple[str, ...]
    citations: list[CitedText]
    evidence: list[str]
    measures: dict[str, float]


def evaluate_qa(
    service: Service,
    index: str,
    dataset: DatasetFacts,
    questions: Sequence[Question],
    plan: AnswerPlan,
    progress: Progress,
    *,
    name: str,
) -> tuple[list[AnswerRow], RunRecord]:
    """Answer and measure as `eval.qa_measures` defines it.

    Where the index lacks a question's relevant documents (it was built from another corpus),
    citation precision and recall do not apply to it. Raises what the service raises.
    """
    answered = ask_all(service, qa_requests(index, questions, plan), progress)
    return measure_qa(service, index, dataset, questions, plan, answered, name=name)


def qa_requests(
    index: str, questions: Sequence[Question], plan: AnswerPlan
) -> dict[str, AnswerRequest]:
    """What is asked, by question."""
    return {q.id: answer_request(index, q.text, plan) for q in questions}


def measure_qa(
    service: Service,
    index: str,
    dataset: DatasetFacts,
    questions: Sequence[Question],
    plan: AnswerPlan,
    answered: Answered,
    *,
    name: str,
) -> tuple[list[AnswerRow], RunRecord]:
    """Rows and record of what was answered."""
    known = frozenset(service.snapshot(index).live_ids())
    rows = [row_of(question, answered.responses[question.id], known) for question in questions]
    asked = [[q.id, q.text, q.answers, sorted(q.relevant)] for q in questions]
    record = answer_record(
        service,
        index,
        msgspec.structs.replace(dataset, questions_sha256=digest_of(asked)),
        plan,
        answered,
        {row.id: row.measures for row in rows},
        task="qa",
        name=name,
    )
    return rows, record


def cited_texts(response: AnswerResponse) -> list[CitedText]:
    """What the answer cites, each stretch once, in the order of its sentences."""
    hits = {hit.id: hit for hit in response.evidence}
    found = (
        CitedText(c.hit_id, hits[c.hit_id].text[c.source_start : c.source_end])
        for c in response.citations
    )
    return list(dict.fromkeys(found))


def row_of(question: Question, response: AnswerResponse, known: frozenset[str]) -> AnswerRow:
    """The response measured; `known` are the ids of the index' documents."""
    citations = cited_texts(response)
    cited: dict[str, list[str]] = {}
    for citation in citations:
        cited.setdefault(citation.id, []).append(citation.text)
    outcome = Outcome(
        id=question.id,
        answer=response.answer,
        golds=question.answers,
        relevant=question.relevant if question.relevant <= known else frozenset(),
        cited=cited,
        evidence=[f"{hit.title} {hit.text}" for hit in response.evidence],
        no_evidence=response.status == "no_evidence",
    )
    return AnswerRow(
        id=question.id,
        question=question.text,
        status=response.status,
        answer=response.answer,
        accepted=question.answers,
        citations=citations,
        evidence=[hit.id for hit in response.evidence],
        measures=measure(outcome),
    )

"""KILT guesses by the service: its answer, and the pages that the answer cites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.ask import AnswerPlan, answer_request, ask_all
from eval.journal import Journal
from eval.kilt_record import KiltRecord, Output, read_kilt
from indexes.errors import InvalidInput
from rag.answer import AnswerResponse
from rag.progress import Progress
from rag.search import Hit
from rag.service import Service

PAGE_ID = "wikipedia_id"


def guess_kilt(
    service: Service,
    index: str,
    questions: Path,
    plan: AnswerPlan,
    progress: Progress,
    journal: Journal | None = None,
) -> list[KiltRecord]:
    """One guess a question, in file order.

    Provenance is the cited documents, the best hit first: `wikipedia_id` from the document's
    metadata, else its id. Where nothing was answered the answer is empty and the provenance too.
    Raises `InvalidInput` for a file that breaks the format or has a question without `input`.
    """
    records = read_kilt(questions)
    for record in records.values():
        if not record.input.strip():
            raise InvalidInput(f"{questions}: the question {record.key!r} has no input")
    requests = {key: answer_request(index, one.input, plan) for key, one in records.items()}
    answered = ask_all(service, requests, progress, journal)
    return [guess_of(one, answered.responses[key]) for key, one in records.items()]


def guess_of(question: KiltRecord, response: AnswerResponse) -> KiltRecord:
    """The guess for one question."""
    cited = {citation.hit_id for citation in response.citations}
    hits = [hit for hit in response.evidence if hit.id in cited]
    return KiltRecord(question.id, question.input, [Output(response.answer, _provenance(hits))])


def _provenance(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """The hits' pages, each once: several documents may be parts of one page."""
    pages: dict[str, dict[str, Any]] = {}
    for hit in hits:
        page = str(hit.metadata.get(PAGE_ID, hit.id))
        pages.setdefault(page, {PAGE_ID: page, "title": hit.title})
    return list(pages.values())

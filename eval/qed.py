"""QED files (Lamm et al. 2021): Natural Questions, each with the paragraph that answers it.

Both of the published formats are read: the early one names its answers `answer_text`, the final one
holds Natural Questions' own in `original_nq_answers`. A few early records have lost their answer;
the paragraph still holds it, so they are no unanswerable questions, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from eval.lines import json_records
from eval.question_set import Paragraphs, Question, QuestionSet, check_questions, distinct


class _Span(msgspec.Struct, frozen=True):
    string: str


class _Record(msgspec.Struct, frozen=True):
    example_id: int
    question_text: str
    paragraph_text: str
    title_text: str = ""
    answer_text: list[str] = []
    original_nq_answers: list[list[_Span]] = []


def read_qed(path: Path) -> QuestionSet:
    """Questions, with each distinct paragraph as a document. Raises as `json_records` does."""
    paragraphs = Paragraphs("qed")
    questions = check_questions(_questions(path, paragraphs), str(path))
    return QuestionSet(path.name.split(".")[0], "", questions, paragraphs.corpus())


def _questions(path: Path, paragraphs: Paragraphs) -> Iterator[Question]:
    for _, record in json_records(path, _Record):
        document_id = paragraphs.add(record.title_text, record.paragraph_text)
        spans = [span.string for spans in record.original_nq_answers for span in spans]
        answers = distinct([*record.answer_text, *spans])
        if answers:
            relevant = frozenset([document_id])
            yield Question(f"nq-{record.example_id}", record.question_text, answers, relevant)

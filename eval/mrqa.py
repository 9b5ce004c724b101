"""MRQA 2019 files (Fisch et al. 2019): a context a line, with the questions that it answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from eval.lines import json_records
from eval.question_set import Paragraphs, Question, QuestionSet, check_questions, distinct


class _Asked(msgspec.Struct, frozen=True):
    qid: str
    question: str
    answers: list[str]


class _Record(msgspec.Struct, frozen=True):
    """One line; MRQA's own files begin with a `header` in place of a context."""

    context: str = ""
    qas: list[_Asked] = []


def read_mrqa(path: Path) -> QuestionSet:
    """Questions, with each distinct context as a document. Raises as `json_records` does."""
    contexts = Paragraphs("mrqa")
    questions = check_questions(_questions(path, contexts), str(path))
    return QuestionSet(path.name.split(".")[0], "", questions, contexts.corpus())


def _questions(path: Path, contexts: Paragraphs) -> Iterator[Question]:
    for _, record in json_records(path, _Record):
        if not record.qas:
            continue
        relevant = frozenset([contexts.add("", record.context)])
        for asked in record.qas:
            yield Question(asked.qid, asked.question, distinct(asked.answers), relevant)

"""Questions with accepted answers, and the documents that hold them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eval.corpus_index import Corpus
from indexes.document import Document
from indexes.errors import InvalidInput


class Question(msgspec.Struct, frozen=True):
    """One question. Without `answers` the right thing is to give none.

    `relevant` are the ids of the documents that are known to hold the answer.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    relevant: frozenset[str] = frozenset()


class QuestionSet(msgspec.Struct, frozen=True):
    """The questions of one file or folder, and its own corpus."""

    name: str
    split: str
    questions: list[Question]
    corpus: Corpus


class Paragraphs:
    """Collects the documents of a file that carries each question's paragraph with it.

    A paragraph seen before, by title and text, keeps its document: questions share it.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._documents: dict[tuple[str, str], Document] = {}

    def add(self, title: str, text: str) -> str:
        """The id of the paragraph's document."""
        number = len(self._documents)
        made = Document(f"{self._prefix}-{number:05d}", text, title)
        return self._documents.setdefault((title, text), made).id

    def corpus(self) -> Corpus:
        """All documents so far."""
        documents = list(self._documents.values())
        return Corpus(lambda: iter(documents))


def check_questions(questions: Iterable[Question], origin: str) -> list[Question]:
    """The questions as a list.

    Raises `InvalidInput` when there is none, one is blank, an id is there twice, or nothing has an
    answer.
    """
    found: dict[str, Question] = {}
    for question in questions:
        if question.id in found:
            raise InvalidInput(f"{origin}: the question id {question.id!r} is there twice")
        if not question.text.strip():
            raise InvalidInput(f"{origin}: the question {question.id!r} is blank")
        found[question.id] = question
    if not any(question.answers for question in found.values()):
        raise InvalidInput(f"{origin} holds no question with an answer")
    return list(found.values())


def distinct(answers: Iterable[str]) -> tuple[str, ...]:
    """Accepted answers without blanks and repeats, in their order."""
    return tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))

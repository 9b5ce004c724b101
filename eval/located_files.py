"""Questions whose answer has a place in their own paragraph: SQuAD and QED files.

The place is the annotators', by offset: where the answer's words stand a second time they do not
count.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from eval.lines import json_records, open_text
from indexes.errors import InvalidInput, MalformedInput, NotFound


class LocatedQuestion(msgspec.Struct, frozen=True):
    """A question, its paragraph, and where answers stand there: [start, end) in code points."""

    id: str
    question: str
    title: str
    text: str
    answers: list[tuple[int, int]]


class _Answer(msgspec.Struct, frozen=True):
    text: str
    answer_start: int


class _Asked(msgspec.Struct, frozen=True):
    id: str
    question: str
    answers: list[_Answer] = []
    is_impossible: bool = False


class _Paragraph(msgspec.Struct, frozen=True):
    context: str
    qas: list[_Asked]


class _Article(msgspec.Struct, frozen=True):
    paragraphs: list[_Paragraph]
    title: str = ""


class _Squad(msgspec.Struct, frozen=True):
    data: list[_Article]


class _Span(msgspec.Struct, frozen=True):
    start: int
    end: int


class _Qed(msgspec.Struct, frozen=True):
    example_id: int
    question_text: str
    paragraph_text: str
    title_text: str = ""
    original_nq_answers: list[list[_Span]] = []


def read_located(path: Path) -> list[LocatedQuestion]:
    """A SQuAD file (`.json`) or a QED file (`.jsonlines`), packed or not.

    Questions without an answer are left out. Raises `NotFound`, `MalformedInput`, and
    `InvalidInput` for a file of another shape or a place outside its paragraph.
    """
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    found = list(_squad(path) if kind == "json" else _qed(path))
    for one in found:
        if any(not 0 <= start < end <= len(one.text) for start, end in one.answers):
            raise InvalidInput(f"{path}: an answer of {one.id!r} is not in its paragraph")
    if not found:
        raise InvalidInput(f"{path} holds no question with an answer")
    return found


def _squad(path: Path) -> Iterator[LocatedQuestion]:
    try:
        with open_text(path) as stream:
            file = msgspec.json.decode(stream.read(), type=_Squad)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{path} is no SQuAD file: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, EOFError, OSError) as error:
        raise MalformedInput(f"{path} is not JSON: {error}") from error
    for article in file.data:
        title = article.title.replace("_", " ")
        for paragraph in article.paragraphs:
            for asked in paragraph.qas:
                places = [
                    (one.answer_start, one.answer_start + len(one.text)) for one in asked.answers
                ]
                if places and not asked.is_impossible:
                    yield LocatedQuestion(
                        asked.id, asked.question, title, paragraph.context, places
                    )


def _qed(path: Path) -> Iterator[LocatedQuestion]:
    for _, record in json_records(path, _Qed):
        places = [(span.start, span.end) for spans in record.original_nq_answers for span in spans]
        if places:
            yield LocatedQuestion(
                f"nq-{record.example_id}",
                record.question_text,
                record.title_text,
                record.paragraph_text,
                places,
            )

"""SQuAD 1.1 and 2.0 files (Rajpurkar et al. 2016, 2018): articles, paragraphs, questions.

SQuAD 2.0's unanswerable questions have no answer in *their* paragraph; over the whole corpus a few
may have one, so abstention on them is measured a little too harshly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from eval.lines import open_text
from eval.question_set import Paragraphs, Question, QuestionSet, check_questions, distinct
from indexes.errors import InvalidInput, MalformedInput, NotFound


class _Answer(msgspec.Struct, frozen=True):
    text: str


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


class _File(msgspec.Struct, frozen=True):
    data: list[_Article]


def read_squad(path: Path) -> QuestionSet:
    """Questions, with each distinct paragraph as a document.

    Raises `NotFound`, `MalformedInput` (no JSON) and `InvalidInput` (of another shape).
    """
    paragraphs = Paragraphs("squad")
    questions = check_questions(_questions(_load(path), paragraphs), str(path))
    return QuestionSet(path.name.split(".")[0], "", questions, paragraphs.corpus())


def _load(path: Path) -> _File:
    try:
        with open_text(path) as stream:
            return msgspec.json.decode(stream.read(), type=_File)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{path} is no SQuAD file: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, EOFError, OSError) as error:
        raise MalformedInput(f"{path} is not JSON: {error}") from error


def _questions(file: _File, paragraphs: Paragraphs) -> Iterator[Question]:
    for article in file.data:
        title = article.title.replace("_", " ")
        for paragraph in article.paragraphs:
            document_id = paragraphs.add(title, paragraph.context)
            for asked in paragraph.qas:
                texts = [] if asked.is_impossible else [answer.text for answer in asked.answers]
                relevant = frozenset([document_id] if texts else [])
                yield Question(asked.id, asked.question, distinct(texts), relevant)

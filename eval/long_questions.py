"""Questions over a context of a wanted length: BEIR folders with answers, files of L-Eval, BAMBOO.

Over a BEIR folder the context is made: the paragraphs that answer the question among others of the
corpus, in seeded random order (multi-document question answering, Liu et al. 2023). A file's text
that is too long loses its middle, as in LongBench. Of BAMBOO's tasks altqa (the answer is a number)
and meetingqa (one of the options, by its letter or its words) are read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from eval.lines import json_records
from eval.question_set import distinct
from indexes.errors import InvalidInput
from rag.generate.language_model import Tokenizer

SEPARATOR = "\n\n"

_SECTION = re.compile(
    r"^(Document|Question):\n(.*?)(?=\n\n(?:Document|Question):\n|\Z)", re.MULTILINE | re.DOTALL
)


class LongQuestion(msgspec.Struct, frozen=True):
    """A question, what it is asked about, and its accepted answers."""

    id: str
    question: str
    context: str
    golds: tuple[str, ...]


class _Document(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="_id")
    text: str = ""
    title: str = ""


class _Query(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="_id")
    text: str = ""
    metadata: dict[str, Any] = {}


class _Exam(msgspec.Struct, frozen=True):
    """A line of L-Eval (`input` and several `instructions`) or of BAMBOO (`content`, one question).

    altqa has its question within `content`, before the document or after it.
    """

    input: str = ""
    instructions: list[str] = []
    outputs: list[str] = []
    content: str = ""
    question: str = ""
    options: list[str] = []
    answer: str = ""


def read_long_questions(
    path: Path, n_tokens: int, n_questions: int, tokenizer: Tokenizer, seed: int
) -> list[LongQuestion]:
    """The first questions of a file, a seeded choice of a BEIR folder's.

    Contexts have at most `n_tokens`. Raises `InvalidInput` when there is no question.
    """
    if path.is_dir():
        found = _among_distractors(path, n_tokens, n_questions, tokenizer, seed)
    else:
        found = _of_exams(path, n_tokens, n_questions, tokenizer)
    if not found:
        raise InvalidInput(f"{path} holds no question with an answer")
    return found


def _of_exams(
    path: Path, n_tokens: int, n_questions: int, tokenizer: Tokenizer
) -> list[LongQuestion]:
    found: list[LongQuestion] = []
    for number, exam in json_records(path, _Exam):
        text, asked = _asked(exam)
        context = without_middle(text.strip(), n_tokens, tokenizer)
        for place, (question, golds) in enumerate(asked):
            found.append(LongQuestion(f"{number}-{place}", question, context, golds))
            if len(found) == n_questions:
                return found
    return found


def _asked(exam: _Exam) -> tuple[str, list[tuple[str, tuple[str, ...]]]]:
    """The text, and each question about it with its accepted answers."""
    if not exam.content:
        golds = [(gold,) for gold in exam.outputs]
        return exam.input, list(zip(exam.instructions, golds, strict=False))
    if not exam.question:
        sections = dict(_SECTION.findall(exam.content))
        question = " ".join(sections.get("Question", "").split())
        return sections.get("Document", ""), [(question, (exam.answer,))]
    chosen = [
        one.partition(".")[2].strip() for one in exam.options if one.startswith(f"{exam.answer}.")
    ]
    question = "\n".join([exam.question.strip(), *exam.options])
    return exam.content, [(question, (exam.answer, *chosen))]


def without_middle(text: str, n_tokens: int, tokenizer: Tokenizer) -> str:
    """The text's first and last tokens, half of `n_tokens` each; all of a text that fits."""
    token_ids = tokenizer.encode(text)
    if len(token_ids) <= n_tokens:
        return text
    half = n_tokens // 2
    return tokenizer.decode(token_ids[:half]) + tokenizer.decode(token_ids[-(n_tokens - half) :])


def _among_distractors(
    folder: Path, n_tokens: int, n_questions: int, tokenizer: Tokenizer, seed: int
) -> list[LongQuestion]:
    documents = {row.id: row for _, row in json_records(_file(folder, "corpus"), _Document)}
    queries = {row.id: row for _, row in json_records(_file(folder, "queries"), _Query)}
    relevant = _relevant(folder)
    asked = [key for key in sorted(queries) if _golds(queries[key]) and key in relevant]
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(asked))[:n_questions]
    order = sorted(documents)
    found = []
    for number, place in enumerate(chosen.tolist()):
        query = queries[asked[place]]
        needed = [documents[key] for key in relevant[query.id] if key in documents]
        context = _mixed(needed, documents, order, n_tokens, tokenizer, [seed, number])
        found.append(LongQuestion(query.id, query.text, context, _golds(query)))
    return found


def _mixed(
    needed: list[_Document],
    documents: dict[str, _Document],
    order: list[str],
    n_tokens: int,
    tokenizer: Tokenizer,
    seed: list[int],
) -> str:
    """The needed paragraphs and as many others as fit, shuffled.

    The same seed adds the same ones in the same order whatever the length.
    """
    generator = np.random.default_rng(seed)
    texts = [_text(document) for document in needed]
    room = n_tokens - sum(len(tokenizer.encode(text + SEPARATOR)) for text in texts)
    names = {document.id for document in needed}
    for place in generator.permutation(len(order)).tolist():
        if order[place] in names:
            continue
        text = _text(documents[order[place]])
        room -= len(tokenizer.encode(text + SEPARATOR))
        if room < 0:
            break
        texts.append(text)
    return SEPARATOR.join(texts[place] for place in generator.permutation(len(texts)).tolist())


def _text(document: _Document) -> str:
    return f"{document.title}\n{document.text}".strip()


def _golds(query: _Query) -> tuple[str, ...]:
    found = query.metadata.get("answers", [])
    return distinct([str(one) for one in found] if isinstance(found, list) else [str(found)])


def _relevant(folder: Path) -> dict[str, list[str]]:
    """Question id → documents judged relevant in any split."""
    relevant: dict[str, list[str]] = {}
    for path in sorted((folder / "qrels").glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            query, document, grade = line.split("\t")
            if int(grade) > 0:
                relevant.setdefault(query, []).append(document)
    return relevant


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.jsonl.gz"
    return packed if packed.is_file() else folder / f"{name}.jsonl"

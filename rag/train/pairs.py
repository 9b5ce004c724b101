"""Questions and the documents that answer them, read from folders in BEIR layout.

`corpus.jsonl.gz {_id, title, text}`, `queries.jsonl.gz {_id, text, metadata.answers}` and
`qrels/SPLIT.tsv`. Only the split asked for is used; a question that also stands in another split
of the folder (dev, test) is left out, so that what is measured later was not trained on.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from indexes.document import Document
from indexes.errors import InvalidInput, MalformedInput
from indexes.files import sha256_of

_SPACE = re.compile(r"\W+")


class PairSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data set of a recipe.

    `folder` is relative to the data folder. `n_queries` bounds the questions (0: all), picked by
    hash. `documents` says whether all the corpus or only what the split's judgements name may be
    a negative. `weight` is its share of the batches relative to the other sets.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    folder: str
    split: str = "train"
    n_queries: Annotated[int, Meta(ge=0)] = 0
    documents: Literal["all", "judged"] = "all"
    weight: Annotated[float, Meta(gt=0)] = 1.0


class TrainingQuery(msgspec.Struct, frozen=True):
    """A question: rows of its relevant documents, best judged first, and its answers if any."""

    id: str
    text: str
    positives: tuple[int, ...]
    answers: tuple[str, ...] = ()


class Pairs(msgspec.Struct, frozen=True):
    """One data set as read. `sha256` is over the files and what was taken of them."""

    source: PairSource
    documents: list[Document]
    queries: list[TrainingQuery]
    sha256: str


class _Row(msgspec.Struct):
    id: str = msgspec.field(name="_id")
    text: str = ""
    title: str = ""
    metadata: dict[str, Any] = {}


def read_pairs(data: Path, source: PairSource) -> Pairs:
    """Read a data set. Raises `InvalidInput` when it is absent, `MalformedInput` when damaged."""
    folder = data / source.folder
    judged_path = folder / "qrels" / f"{source.split}.tsv"
    files = [_file(folder, "corpus.jsonl"), _file(folder, "queries.jsonl"), judged_path]
    for file in files:
        if not file.is_file():
            raise InvalidInput(f"training data {source.name!r}: {file} is absent")
    questions = {row.id: row for row in _rows(files[1])}
    judged = _judgements(judged_path)
    asked = _without_other_splits(judged, questions, judged_path)
    merged = _merged(asked, questions)
    chosen = sorted(merged, key=lambda row: (_digest(row[2][0]), row[1]))
    chosen = chosen[: source.n_queries or len(chosen)]
    wanted = {key for _, _, keys, _ in chosen for key in keys}
    documents = [
        Document(row.id, row.text, row.title, row.metadata)
        for row in _rows(files[0])
        if (row.text.strip() or row.title.strip())
        and (source.documents == "all" or row.id in wanted)
    ]
    places = {document.id: place for place, document in enumerate(documents)}
    queries = []
    for key, text, keys, answers in chosen:
        rows = tuple(places[one] for one in keys if one in places)
        if rows:
            queries.append(TrainingQuery(key, text, rows, answers))
    if not queries:
        raise InvalidInput(f"training data {source.name!r}: no question has a relevant document")
    read_as = msgspec.structs.replace(source, weight=1.0)
    facts = [msgspec.to_builtins(read_as), [sha256_of(file) for file in files]]
    digest = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
    return Pairs(source, documents, queries, digest)


def held_out(pairs: Pairs, share: float) -> tuple[list[int], list[int]]:
    """Numbers of the questions to train on and of those held out, about `share` of all.

    By hash of the first relevant document: questions about one paragraph fall on one side,
    whatever the order or the number of questions.
    """
    train: list[int] = []
    kept: list[int] = []
    for number, query in enumerate(pairs.queries):
        place = int(_digest(pairs.documents[query.positives[0]].text)[:8], 16) / 16**8
        (kept if place < share else train).append(number)
    return train, kept


def avoided(pairs: Pairs, data: Path, judged: Sequence[str]) -> set[int]:
    """Numbers of the questions that other judgements, `FOLDER/qrels/SPLIT.tsv`, measure with.

    Those are questions asked there too, and questions whose relevant document has the text of a
    document that is relevant there. Judgements of the set's own folder only forbid questions: its
    documents are everybody's.
    """
    texts: set[str] = set()
    asked: set[str] = set()
    for name in judged:
        path = data / name
        folder = path.parent.parent
        found = _judgements(path)
        relevant = {key for grades in found.values() for key in grades if grades[key] > 0}
        questions = _rows(_file(folder, "queries.jsonl"))
        asked |= {text_digest(row.text) for row in questions if row.id in found}
        if folder != data / pairs.source.folder:
            corpus = _rows(_file(folder, "corpus.jsonl"))
            texts |= {text_digest(row.text) for row in corpus if row.id in relevant}
    copies = {row for row, one in enumerate(pairs.documents) if text_digest(one.text) in texts}
    return {
        number
        for number, query in enumerate(pairs.queries)
        if text_digest(query.text) in asked or not copies.isdisjoint(query.positives)
    }


def judged_texts(data: Path, judged: Sequence[str]) -> set[str]:
    """`text_digest` of every document that such judgements call relevant."""
    texts: set[str] = set()
    for name in judged:
        path = data / name
        found = _judgements(path)
        relevant = {key for grades in found.values() for key in grades if grades[key] > 0}
        corpus = _rows(_file(path.parent.parent, "corpus.jsonl"))
        texts |= {text_digest(row.text) for row in corpus if row.id in relevant}
    return texts


def normalised(text: str) -> str:
    """Lower case, words parted by single spaces, with a space at either end."""
    return f" {_SPACE.sub(' ', text.lower()).strip()} "


def text_digest(text: str) -> str:
    """Equal for texts that differ in case, punctuation and white space only."""
    return _digest(normalised(text))


def passage_text(document: Document) -> str:
    """What a retriever reads of a document: its title, then its text."""
    return f"{document.title} {document.text}".strip()


def _merged(
    judged: dict[str, dict[str, int]], questions: dict[str, _Row]
) -> list[tuple[str, str, list[str], tuple[str, ...]]]:
    """(id, text, document ids, answers) of each distinct question; the same text is asked once."""
    by_text: dict[str, list[str]] = {}
    for key in judged:
        if key not in questions:
            raise MalformedInput(f"the judgements name an unknown question {key!r}")
        by_text.setdefault(normalised(questions[key].text), []).append(key)
    merged = []
    for keys in by_text.values():
        grades: dict[str, int] = {}
        answers: dict[str, None] = {}
        for key in keys:
            for document, grade in judged[key].items():
                grades[document] = max(grade, grades.get(document, 0))
            answers |= dict.fromkeys(_answers(questions[key]))
        relevant = sorted(
            (document for document in grades if grades[document] > 0),
            key=lambda document: (-grades[document], document),
        )
        if relevant:
            merged.append((keys[0], questions[keys[0]].text, relevant, tuple(answers)))
    return merged


def _without_other_splits(
    judged: dict[str, dict[str, int]], questions: dict[str, _Row], path: Path
) -> dict[str, dict[str, int]]:
    others = {
        normalised(questions[key].text)
        for other in sorted(path.parent.glob("*.tsv"))
        if other != path
        for key in _judgements(other)
        if key in questions
    }
    return {
        key: found
        for key, found in judged.items()
        if key not in questions or normalised(questions[key].text) not in others
    }


def _answers(row: _Row) -> Sequence[str]:
    found = row.metadata.get("answers", [])
    return [str(one) for one in found] if isinstance(found, list) else [str(found)]


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    """Question id → document id → grade."""
    judged: dict[str, dict[str, int]] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[1:], start=2):
        try:
            query, document, grade = line.split("\t")
            judged.setdefault(query, {})[document] = int(grade)
        except ValueError as error:
            raise MalformedInput(f"{path.name}:{number}: not QUERY, DOCUMENT, GRADE") from error
    return judged


def _rows(path: Path) -> Iterator[_Row]:
    decoder = msgspec.json.Decoder(_Row)
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise MalformedInput(f"{path.name}:{number}: {error}") from error


def _lines(path: Path) -> Iterable[bytes]:
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as packed:
            yield from packed
    else:
        with path.open("rb") as plain:
            yield from plain


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    return packed if packed.is_file() else folder / name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

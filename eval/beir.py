"""Read a folder in the layout of BEIR (Thakur et al. 2021).

::

    corpus.jsonl[.gz]    {"_id", "title", "text", "metadata"?}
    queries.jsonl[.gz]   {"_id", "text", "metadata"?}
    qrels/SPLIT.tsv[.gz] query-id, corpus-id, score; with or without a header
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from eval.dataset import Dataset, Query, check_judged_documents, drops_self, judged_queries
from eval.lines import json_records
from eval.qrels import read_qrels
from indexes.document import Document
from indexes.errors import InvalidInput, NotFound

_DEFAULT_SPLIT = "test"
_SPLIT_ENDINGS = (".tsv", ".tsv.gz")


class _Id(msgspec.Struct, frozen=True):
    """Just the id of a record: what is needed to check judgements, decoded fast."""

    id: str = msgspec.field(name="_id")


class _CorpusRecord(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="_id")
    text: str
    title: str | None = None
    metadata: dict[str, Any] | None = None


class _QueryRecord(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="_id")
    text: str
    metadata: dict[str, Any] | None = None


def read_beir(folder: Path, split: str | None = None) -> Dataset:
    """Read queries and judgements and check them against the corpus' ids; the corpus is streamed.

    `split` names a file under `qrels/`; left out, it is `test`, else the only one there is.

    Raises `NotFound` for a missing folder, file or split, and `InvalidInput` for duplicate ids,
    ids that nobody knows and numbers that are none.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    corpus = _jsonl(folder, "corpus")
    split, qrels_path = _choose_split(folder / "qrels", split)
    qrels = read_qrels(qrels_path)
    queries = judged_queries(_read_queries(_jsonl(folder, "queries")), qrels, str(qrels_path))
    check_judged_documents(qrels, _corpus_ids(corpus), str(qrels_path))
    return Dataset(
        name=folder.resolve().name,
        split=split,
        queries=queries,
        qrels=qrels,
        documents=partial(_read_corpus, corpus),
        drop_self=drops_self(folder.resolve().name),
        folder=folder,
    )


def splits(folder: Path) -> list[str]:
    """The names of the splits under a `qrels` folder, sorted."""
    files = folder.iterdir() if folder.is_dir() else ()
    found = (
        file.name.removesuffix(ending)
        for file in files
        for ending in _SPLIT_ENDINGS
        if file.name.endswith(ending)
    )
    return sorted(set(found))


def _choose_split(folder: Path, split: str | None) -> tuple[str, Path]:
    found = splits(folder)
    if not found:
        raise NotFound(f"there are no judgements: {folder} holds no .tsv file")
    chosen = split or (_DEFAULT_SPLIT if _DEFAULT_SPLIT in found else found[0])
    if split is None and len(found) > 1 and chosen != _DEFAULT_SPLIT:
        raise InvalidInput(f"{folder} has several splits, choose one: {', '.join(found)}")
    if chosen not in found:
        raise NotFound(f"there is no split {chosen!r} in {folder}: it has {', '.join(found)}")
    plain = folder / f"{chosen}.tsv"
    return chosen, plain if plain.exists() else folder / f"{chosen}.tsv.gz"


def _jsonl(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if candidate.is_file():
            return candidate
    raise NotFound(f"{folder} has neither {name}.jsonl nor {name}.jsonl.gz")


def _read_queries(path: Path) -> dict[str, Query]:
    queries: dict[str, Query] = {}
    for number, record in json_records(path, _QueryRecord):
        if record.id in queries:
            raise InvalidInput(f"{path}, line {number}: the query id {record.id!r} is there twice")
        queries[record.id] = Query(record.id, record.text, _answers(record.metadata))
    return queries


def _answers(metadata: dict[str, Any] | None) -> tuple[str, ...]:
    answers = (metadata or {}).get("answers", ())
    return tuple(answer for answer in answers if isinstance(answer, str))


def _corpus_ids(path: Path) -> set[str]:
    ids: set[str] = set()
    for number, record in json_records(path, _Id):
        if record.id in ids:
            raise InvalidInput(f"{path}, line {number}: document id {record.id!r} is there twice")
        ids.add(record.id)
    return ids


def _read_corpus(path: Path) -> Iterator[Document]:
    for _, record in json_records(path, _CorpusRecord):
        yield Document(record.id, record.text, record.title or "", record.metadata or {})

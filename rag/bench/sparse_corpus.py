"""A corpus as sparse vectors: encoded once, kept in a folder, read back from there."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from indexes.analyzer import Analyzer
from indexes.errors import InvalidInput, UsageError
from indexes.postings import concatenate
from indexes.readers import inputs_fingerprint, read_documents
from indexes.rejects import Rejects
from indexes.representation import SparseRows, SparseVector
from rag.config import Settings
from rag.progress import Progress
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import parse_spec, passage_input
from rag.retrievers.splade import SpladeRetriever

PART = 1024
"""Texts encoded before they are written: what an interruption costs at most."""

_QUERIES = ("queries.jsonl", "queries.jsonl.gz")


class SparseCorpus(msgspec.Struct, frozen=True):
    """Documents and queries over one vocabulary; weights float32, ids ascending in each row.

    `key` changes with the texts and the model.
    """

    name: str
    key: str
    documents: SparseRows
    queries: SparseRows


class Texts(msgspec.Struct, frozen=True):
    """What is read from a BEIR folder: the title and text of each document, and the queries."""

    documents: list[str]
    queries: list[str]


def read_texts(data: Path) -> Texts:
    """Raises `InvalidInput` for a folder without documents or queries."""
    queries = next((data / name for name in _QUERIES if (data / name).is_file()), None)
    found = Texts(_read(data), [] if queries is None else _read(queries))
    if not found.documents or not found.queries:
        raise InvalidInput(f"{data} has no documents or no queries (a BEIR folder is needed)")
    return found


def encode_corpora(
    folders: Sequence[Path], model: str, settings: Settings, work: Path, progress: Progress
) -> list[SparseCorpus]:
    """Each folder's corpus by a SPLADE model; what `work` has is not encoded again.

    Every document is one vector, cut at the model's default length. Raises `UsageError` when the
    model is no SPLADE.
    """
    entry = entry_of(parse_spec(f"bench={model}:kind=splade"), settings, progress)
    encoder = _Encoder(lambda: open_retriever(entry, Analyzer(), settings))
    corpora = []
    for folder in folders:
        made_of = f"{entry.sha256}{sorted(entry.params.items())}{_fingerprint(folder)}"
        key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        documents, queries = _encoded(folder, work / f"{folder.name}-{key}", encoder, progress)
        corpora.append(SparseCorpus(folder.name, key, documents, queries))
    return corpora


class _Encoder:
    """Owns the retriever, which is loaded when the first text needs it."""

    def __init__(self, load: Callable[[], object]) -> None:
        self._load = load
        self._retriever: SpladeRetriever | None = None

    def rows(self, texts: Sequence[str], *, queries: bool, progress: Progress) -> SparseRows:
        """The texts' vectors over the model's vocabulary."""
        retriever = self._opened()
        if queries:
            found = [query.vector.sparse for query in retriever.encode_queries(texts)]
            progress.advance(len(texts))
            return _as_rows([vector for vector in found if vector is not None], retriever)
        sparse = retriever.encode_passages(texts, progress.advance).sparse
        if sparse is None:
            raise UsageError("the model makes no sparse vectors")
        return sparse

    def _opened(self) -> SpladeRetriever:
        if self._retriever is None:
            retriever = self._load()
            if not isinstance(retriever, SpladeRetriever):
                raise UsageError("the model makes no sparse vectors")
            self._retriever = retriever
        return self._retriever


def pooled(corpora: Sequence[SparseCorpus]) -> SparseCorpus:
    """All documents and all queries as one corpus."""
    return SparseCorpus(
        name="pooled",
        key=hashlib.sha256("".join(corpus.key for corpus in corpora).encode()).hexdigest()[:16],
        documents=concatenate([corpus.documents for corpus in corpora]),
        queries=concatenate([corpus.queries for corpus in corpora]),
    )


def _encoded(
    data: Path, kept: Path, encoder: _Encoder, progress: Progress
) -> tuple[SparseRows, SparseRows]:
    """(documents, queries); the parts that are missing are encoded."""
    kept.mkdir(parents=True, exist_ok=True)
    texts = read_texts(data)
    parts = {"documents": _parts(texts.documents), "queries": _parts(texts.queries)}
    missing = [
        (kept / f"{kind}-{number:05d}.npz", kind, part)
        for kind, cut in parts.items()
        for number, part in enumerate(cut)
        if not (kept / f"{kind}-{number:05d}.npz").exists()
    ]
    if missing:
        progress.start(f"encoding {data.name}", sum(len(part) for _, _, part in missing), "text")
    for file, kind, part in missing:
        _save(file, encoder.rows(part, queries=kind == "queries", progress=progress))
    if missing:
        progress.finish()
    return _joined(kept, "documents", parts), _joined(kept, "queries", parts)


def _joined(kept: Path, kind: str, parts: dict[str, list[Sequence[str]]]) -> SparseRows:
    return concatenate([_load(kept / f"{kind}-{n:05d}.npz") for n in range(len(parts[kind]))])


def _parts(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[at : at + PART] for at in range(0, len(texts), PART)]


def _as_rows(vectors: Sequence[SparseVector], retriever: SpladeRetriever) -> SparseRows:
    numbers = {term: number for number, term in enumerate(retriever.vocabulary)}
    return SparseRows(
        vocabulary=retriever.vocabulary,
        indptr=np.cumsum([0, *(len(vector.terms) for vector in vectors)]).astype(np.int64),
        term_ids=np.array([numbers[t] for v in vectors for t in v.terms], dtype=np.uint32),
        weights=np.array([w for v in vectors for w in v.weights], dtype=np.float32),
    )


def _save(file: Path, rows: SparseRows) -> None:
    """Written whole or not at all: an interruption leaves the temporary name."""
    temporary = file.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        vocabulary=np.frombuffer(msgspec.json.encode(rows.vocabulary), dtype=np.uint8),
        indptr=rows.indptr,
        term_ids=rows.term_ids,
        weights=rows.weights,
    )
    temporary.replace(file)


def _load(file: Path) -> SparseRows:
    """Raises `InvalidInput` for a file that something else wrote."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            return SparseRows(
                vocabulary=msgspec.json.decode(kept["vocabulary"].tobytes(), type=list[str]),
                indptr=kept["indptr"],
                term_ids=kept["term_ids"],
                weights=kept["weights"],
            )
    except (KeyError, ValueError, zipfile.BadZipFile, msgspec.DecodeError) as error:
        raise InvalidInput(f"{file} is damaged: remove it ({error})") from error


def _fingerprint(data: Path) -> str:
    files = [data, *(data / name for name in _QUERIES if (data / name).is_file())]
    return inputs_fingerprint(files)


def _read(path: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch, Rejects(Path(scratch) / "rejects") as rejects:
        return [
            passage_input(read.document.title, read.document.text)
            for read in read_documents([path], rejects)
        ]

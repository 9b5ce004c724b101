"""Many documents with the statistics of few: real sparse vectors, crossed over.

A synthetic document has three real parents of one corpus: one drawn at random, one of that
document's nearest neighbours, and one about as long. Each term is inherited, with its weight or
its absence, from one parent, the same term always from the same: so a term's document frequency
and the distribution of its weights stay what they are in expectation, and documents come in
topics as real ones do. A document is a function of the corpora, the seed and its number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from indexes.kernels import accumulate, best_rows, compiled
from indexes.postings import concatenate, invert
from indexes.representation import Floats, Rows, SparseRows
from rag.bench.sparse_corpus import SparseCorpus
from rag.progress import Progress

FIRST, SECOND = 0.6, 0.9
"""Shares of the terms from the first parent, and from the first and its neighbour."""

NEIGHBOURS = 16
ABOUT_AS_LONG = 32
"""The third parent is at most as many places away by number of terms."""

CHUNK = 1 << 14
"""Documents made at a time."""


class _Parents(msgspec.Struct, frozen=True):
    """Real documents and who may be crossed with whom.

    `neighbours[row]` are rows of the same corpus, int64 `[n, NEIGHBOURS]`; `by_length` are the
    rows of each corpus by number of terms, one corpus after another; row is at `place[row]` of it
    and its corpus at `first[row]:last[row]`.
    """

    rows: SparseRows
    neighbours: NDArray[np.int64]
    by_length: NDArray[np.int64]
    place: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


def synthetic_corpus(
    corpora: Sequence[SparseCorpus], n_documents: int, seed: int, work: Path, progress: Progress
) -> SparseCorpus:
    """`n_documents` crossed-over documents, kept below `work` and mapped; the queries are real."""
    names = [f"{corpus.name}{corpus.key}" for corpus in corpora]
    key = hashlib.sha256(f"{names}{seed}".encode()).hexdigest()[:16]
    folder = work / f"synthetic-{n_documents}-{key}"
    if not (folder / "indptr.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(_parents(corpora, progress), n_documents, seed, folder, progress)
    vocabulary = concatenate([_nothing(corpus.documents) for corpus in corpora]).vocabulary
    documents = SparseRows(
        vocabulary,
        np.load(folder / "indptr.npy"),
        np.asarray(np.memmap(folder / "term_ids", np.uint32, "r")),
        np.asarray(np.memmap(folder / "weights", np.float32, "r")),
    )
    queries = concatenate([corpus.queries for corpus in corpora])
    return SparseCorpus(f"synthetic-{n_documents}", key, documents, queries)


def _nothing(rows: SparseRows) -> SparseRows:
    """No rows over the same vocabulary."""
    return SparseRows(rows.vocabulary, rows.indptr[:1], rows.term_ids[:0], rows.weights[:0])


def _write(
    parents: _Parents, n_documents: int, seed: int, folder: Path, progress: Progress
) -> None:
    """A chunk at a time is in memory; `indptr.npy` comes last and says that all is there."""
    progress.start(f"{n_documents} synthetic documents", n_documents, "document")
    indptr = np.zeros(n_documents + 1, dtype=np.int64)
    with (folder / "term_ids").open("wb") as ids, (folder / "weights").open("wb") as weights:
        for start in range(0, n_documents, CHUNK):
            stop = min(start + CHUNK, n_documents)
            counts, chunk_ids, chunk_weights = _crossed(
                parents.rows.indptr,
                parents.rows.term_ids,
                parents.rows.weights,
                parents.neighbours,
                parents.by_length,
                parents.place,
                parents.first,
                parents.last,
                np.arange(start, stop),
                seed,
            )
            indptr[start + 1 : stop + 1] = counts
            chunk_ids.tofile(ids)
            chunk_weights.tofile(weights)
            progress.advance(stop - start)
    progress.finish()
    np.save(folder / "indptr.npy", np.cumsum(indptr))


def _parents(corpora: Sequence[SparseCorpus], progress: Progress) -> _Parents:
    rows = concatenate([corpus.documents for corpus in corpora])
    progress.start("neighbours of the real documents", rows.n_rows, "document")
    neighbours, by_length, first, last = [], [], [], []
    base = 0
    for corpus in corpora:
        n_rows = corpus.documents.n_rows
        neighbours.append(_neighbours(corpus.documents, progress) + base)
        lengths = np.diff(corpus.documents.indptr)
        by_length.append(np.argsort(lengths, kind="stable") + base)
        first.append(np.full(n_rows, base))
        last.append(np.full(n_rows, base + n_rows))
        base += n_rows
    progress.finish()
    order = np.concatenate(by_length)
    place = np.empty(base, dtype=np.int64)
    place[order] = np.arange(base)
    return _Parents(
        rows, np.concatenate(neighbours), order, place, np.concatenate(first), np.concatenate(last)
    )


def _neighbours(documents: SparseRows, progress: Progress) -> NDArray[np.int64]:
    """For each document those of greatest cosine, itself left out; repeated if too few.

    By the product alone the longest documents would be everybody's neighbours.
    """
    terms, indptr, rows, weights = invert(_normalised(documents))
    known = {term: number for number, term in enumerate(terms)}
    number = np.array([known.get(term, 0) for term in documents.vocabulary], dtype=np.int64)
    found = np.zeros((documents.n_rows, NEIGHBOURS), dtype=np.int64)
    everything = np.zeros(0, np.bool_)
    for row in range(documents.n_rows):
        span = slice(int(documents.indptr[row]), int(documents.indptr[row + 1]))
        held = number[documents.term_ids[span]]
        scores = np.full(documents.n_rows, -0.0, np.float32)
        accumulate(indptr[held], indptr[held + 1], documents.weights[span], rows, weights, scores)
        scores[row] = -0.0
        nearest, _ = best_rows(scores, everything, NEIGHBOURS)
        found[row] = np.resize(np.sort(nearest), NEIGHBOURS) if len(nearest) else row
        progress.advance(1)
    return found


def _normalised(documents: SparseRows) -> SparseRows:
    """The same rows with a Euclidean length of 1."""
    owner = np.repeat(np.arange(documents.n_rows), np.diff(documents.indptr))
    squares = np.bincount(owner, documents.weights**2, documents.n_rows)
    lengths = np.sqrt(np.where(squares > 0, squares, 1)).astype(np.float32)
    return msgspec.structs.replace(documents, weights=documents.weights / lengths[owner])


@compiled
def _mixed(state: np.uint64) -> np.uint64:
    """SplitMix64's output function (Steele, Lea and Flood 2014)."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def _heir_of(key: np.uint64, term: np.int64) -> int:
    """Which parent, 0, 1 or 2, the document of this key takes a term from."""
    drawn = np.float64(_mixed(key ^ np.uint64(term)) >> np.uint64(11)) * 2.0**-53
    return int(drawn >= FIRST) + int(drawn >= SECOND)


@compiled
def _crossed(
    indptr: NDArray[np.int64],
    term_ids: Rows,
    weights: Floats,
    neighbours: NDArray[np.int64],
    by_length: NDArray[np.int64],
    place: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    numbers: NDArray[np.int64],
    seed: int,
) -> tuple[NDArray[np.int64], Rows, Floats]:
    """The documents of these numbers: (terms of each, their ids ascending, their weights)."""
    counts = np.zeros(len(numbers), np.int64)
    room = 1024
    found_ids = np.empty(room, np.uint32)
    found_weights = np.empty(room, np.float32)
    size = 0
    parents = np.zeros(3, np.int64)
    n_real = np.uint64(len(indptr) - 1)
    for document in range(len(numbers)):
        key = _mixed(np.uint64(seed) ^ _mixed(np.uint64(numbers[document])))
        row = np.int64(_mixed(key + np.uint64(1)) % n_real)
        choice = np.int64(_mixed(key + np.uint64(2)) % np.uint64(neighbours.shape[1]))
        step = np.int64(_mixed(key + np.uint64(3)) % np.uint64(2 * ABOUT_AS_LONG + 1))
        at = min(max(place[row] + step - ABOUT_AS_LONG, first[row]), last[row] - 1)
        parents[0], parents[1], parents[2] = row, neighbours[row, choice], by_length[at]
        start = size
        for number in range(3):
            parent = parents[number]
            for entry in range(indptr[parent], indptr[parent + 1]):
                if _heir_of(key, np.int64(term_ids[entry])) != number:
                    continue
                if size == room:
                    found_ids = np.concatenate((found_ids, np.empty(room, np.uint32)))
                    found_weights = np.concatenate((found_weights, np.empty(room, np.float32)))
                    room *= 2
                found_ids[size] = term_ids[entry]
                found_weights[size] = weights[entry]
                size += 1
        order = np.argsort(found_ids[start:size])
        found_ids[start:size] = found_ids[start:size][order]
        found_weights[start:size] = found_weights[start:size][order]
        counts[document] = size - start
    return counts, found_ids[:size].copy(), found_weights[:size].copy()

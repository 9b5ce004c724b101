"""Impact postings: for each term the passages that hold it and how much, memory-mapped.

Files of a segment, for a retriever called `name`: `terms` (the vocabulary's UTF-8 bytes, sorted,
end to end), `term_offsets`, `indptr`, `rows` (ascending within a term) and `weights`; where the
weights are term frequencies also `lengths` and `impacts` (see `indexes.bm25`), where they are the
impacts themselves also those of `indexes.layers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.array_file import map_array
from indexes.kernels import by_term, find_terms
from indexes.representation import Floats, Rows, SparseRows

REMEMBERED = 1 << 16
"""Terms whose numbers are kept once they were looked up: queries use the same ones again."""


def file_of(folder: Path, name: str, part: str) -> Path:
    """Where a retriever keeps one of its arrays."""
    return folder / f"{name}.{part}.npy"


class Postings:
    """One retriever's postings in one segment; arrays are views of mapped files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.terms = map_array(file_of(folder, name, "terms"))
        self.term_offsets = map_array(file_of(folder, name, "term_offsets"))
        self.indptr = map_array(file_of(folder, name, "indptr"))
        self.rows: Rows = map_array(file_of(folder, name, "rows"))
        self.weights = map_array(file_of(folder, name, "weights"))
        self.lengths = _mapped_if_there(file_of(folder, name, "lengths"))
        self._numbers: dict[str, int] = {}
        self.impacts: Floats | None = _mapped_if_there(file_of(folder, name, "impacts"))

    @property
    def n_terms(self) -> int:
        """Distinct terms."""
        return len(self.indptr) - 1

    def term(self, number: int) -> bytes:
        """UTF-8 bytes of the term with this number."""
        return bytes(self.terms[self.term_offsets[number] : self.term_offsets[number + 1]])

    def numbers(self, terms: Sequence[str]) -> NDArray[np.int64]:
        """The terms' numbers; -1 for those that occur nowhere. Terms asked for are remembered."""
        try:
            return _numbers_in(self._numbers, terms)
        except KeyError:
            return _numbers_in(self._look_up(terms), terms)

    def find(self, term: str) -> slice:
        """The stretch of `rows` and `weights` that belongs to `term`; empty when unknown."""
        number = int(self.numbers([term])[0])
        if number < 0:
            return slice(0, 0)
        return slice(int(self.indptr[number]), int(self.indptr[number + 1]))

    def _look_up(self, terms: Sequence[str]) -> dict[str, int]:
        """Remember these terms too; those remembered before are let go if they are many."""
        known = self._numbers
        unseen = [term for term in terms if term not in known]
        if len(known) >= REMEMBERED:
            known, unseen = {}, list(terms)
        wanted, offsets = _end_to_end([term.encode() for term in unseen])
        found = find_terms(self.terms, self.term_offsets, wanted, offsets).tolist()
        known.update(zip(unseen, found, strict=True))
        self._numbers = known
        return known

    def vocabulary(self) -> Iterator[str]:
        """Every term, sorted by its UTF-8 bytes."""
        return (self.term(number).decode() for number in range(self.n_terms))


def _numbers_in(known: dict[str, int], terms: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(known.__getitem__, terms), np.int64, len(terms))


def write_postings(folder: Path, name: str, vectors: SparseRows) -> None:
    """Invert the rows and write the files. Terms that occur nowhere are left out."""
    terms, indptr, rows, weights = invert(vectors)
    spelled, offsets = _end_to_end([term.encode() for term in terms])
    np.save(file_of(folder, name, "terms"), spelled)
    np.save(file_of(folder, name, "term_offsets"), offsets)
    np.save(file_of(folder, name, "indptr"), indptr)
    np.save(file_of(folder, name, "rows"), rows)
    np.save(file_of(folder, name, "weights"), weights)
    if vectors.lengths is not None:
        np.save(file_of(folder, name, "lengths"), vectors.lengths)


def invert(
    vectors: SparseRows,
) -> tuple[list[str], NDArray[np.int64], Rows, NDArray[Any]]:
    """Rows by passage → rows by term: (terms sorted by UTF-8 bytes, indptr, rows, weights)."""
    counts = np.bincount(vectors.term_ids, minlength=len(vectors.vocabulary))
    used = [number for number, count in enumerate(counts) if count]
    # Code point order and UTF-8 byte order agree, so plain string sorting serves `find`.
    used.sort(key=vectors.vocabulary.__getitem__)
    new_number = np.zeros(len(vectors.vocabulary), dtype=np.uint32)
    new_number[used] = np.arange(len(used), dtype=np.uint32)
    indptr = np.zeros(len(used) + 1, dtype=np.int64)
    np.cumsum(counts[used] if used else [], out=indptr[1:])
    rows, weights = by_term(vectors.indptr, vectors.term_ids, vectors.weights, new_number, indptr)
    return [vectors.vocabulary[number] for number in used], indptr, rows, weights


def revert(postings: Postings, keep: NDArray[np.int64], n_kept: int) -> SparseRows:
    """Postings → rows by passage, for rewriting. `keep[row]` is the new row, or -1 to drop it."""
    term_ids = np.repeat(
        np.arange(postings.n_terms, dtype=np.uint32), np.diff(postings.indptr).astype(np.int64)
    )
    rows = keep[postings.rows]
    alive = rows >= 0
    rows, term_ids, weights = rows[alive], term_ids[alive], postings.weights[alive]
    order = np.argsort(rows, kind="stable")
    indptr = np.zeros(n_kept + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n_kept), out=indptr[1:])
    lengths = None if postings.lengths is None else np.asarray(postings.lengths)[keep >= 0]
    return SparseRows(list(postings.vocabulary()), indptr, term_ids[order], weights[order], lengths)


def concatenate(parts: list[SparseRows]) -> SparseRows:
    """One set of rows after another, over the union of their vocabularies."""
    numbers: dict[str, int] = {}
    remapped = []
    for part in parts:
        local = [numbers.setdefault(term, len(numbers)) for term in part.vocabulary]
        remapped.append(np.array(local, dtype=np.uint32)[part.term_ids])
    starts = np.cumsum([0] + [len(part.term_ids) for part in parts])
    indptr = np.concatenate(
        [[0]] + [part.indptr[1:] + start for part, start in zip(parts, starts, strict=False)]
    )
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return SparseRows(
        vocabulary=list(numbers),
        indptr=indptr.astype(np.int64),
        term_ids=np.concatenate(remapped) if remapped else np.zeros(0, np.uint32),
        weights=_stacked([part.weights for part in parts]),
        lengths=np.concatenate(lengths) if lengths else None,
    )


def _stacked(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def _end_to_end(encoded: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Strings one after another, and where each begins (and the last ends)."""
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(term) for term in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def _mapped_if_there(path: Path) -> NDArray[Any] | None:
    return map_array(path) if path.exists() else None

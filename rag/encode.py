"""One stage alone: texts → representations, as people and other programs read them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from indexes.analyzer import Analyzer
from indexes.errors import InvalidInput
from indexes.representation import Floats, PassageVectors, SparseVector
from rag.config import Settings
from rag.progress import Progress
from rag.retrievers.dupmae import DupmaeRetriever
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import Retriever, RetrieverSpec
from rag.retrievers.splade import SpladeRetriever


class SparseCode(msgspec.Struct, frozen=True):
    """A sparse representation, heaviest term first: `values[i]` belongs to `tokens[i]`.

    `indices` are the tokens' places in the model's vocabulary; empty where there is none (BM25,
    whose values are the frequencies of terms).
    """

    indices: list[int]
    values: list[float]
    tokens: list[str]


class BothCodes(msgspec.Struct, frozen=True):
    """What a retriever with two parts makes of a text."""

    sparse: SparseCode
    dense: list[float]


Code = SparseCode | BothCodes | list[float]


class TextEncoder:
    """Owns an open retriever that is used without an index."""

    def __init__(self, spec: RetrieverSpec, settings: Settings, progress: Progress) -> None:
        entry = entry_of(spec, settings, progress)
        self.retriever: Retriever = open_retriever(entry, Analyzer(), settings)
        self._numbers: dict[str, int] = {}
        if isinstance(self.retriever, SpladeRetriever | DupmaeRetriever):
            terms = self.retriever.vocabulary
            self._numbers = {term: number for number, term in enumerate(terms)}

    def queries(self, texts: Sequence[str]) -> list[Code]:
        """Each text as a query."""
        found = self.retriever.encode_queries(texts)
        return [self._code(query.vector.sparse, query.vector.dense) for query in found]

    def passages(self, texts: Sequence[str]) -> list[Code]:
        """Each text as a passage."""
        vectors = self.retriever.encode_passages(texts, _nobody)
        dense = vectors.dense
        return [
            self._code(sparse_row(vectors, row), None if dense is None else dense[row])
            for row in range(len(texts))
        ]

    def _code(self, sparse: SparseVector | None, dense: Floats | None) -> Code:
        numbers = None if dense is None else [float(value) for value in dense]
        if sparse is None:
            if numbers is None:
                raise InvalidInput(f"{self.retriever.entry.name} represents nothing")
            return numbers
        pairs = sorted(
            zip(sparse.terms, sparse.weights, strict=True), key=lambda pair: (-pair[1], pair[0])
        )
        code = SparseCode(
            indices=[self._numbers[term] for term, _ in pairs] if self._numbers else [],
            values=[weight for _, weight in pairs],
            tokens=[term for term, _ in pairs],
        )
        return code if numbers is None else BothCodes(code, numbers)


def sparse_row(vectors: PassageVectors, row: int) -> SparseVector | None:
    """One passage's terms and weights; None for a retriever without a sparse part."""
    sparse = vectors.sparse
    if sparse is None:
        return None
    span = slice(int(sparse.indptr[row]), int(sparse.indptr[row + 1]))
    terms = [sparse.vocabulary[number] for number in sparse.term_ids[span]]
    return SparseVector(terms, [float(weight) for weight in sparse.weights[span]])


def _nobody(_: int) -> None:
    """Progress that nobody follows."""

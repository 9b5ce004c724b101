"""Our engines over impacts: through an index on disk, in its modes and in batches, and bare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from indexes.manifest import RetrieverEntry
from indexes.representation import QueryVector, SparseRows, SparseVector
from indexes.sparse_search import SparseMode, search_postings
from rag.bench.engine import Engine, Rows
from rag.bench.sparse_corpus import SparseCorpus
from rag.bench.sparse_index import sparse_index

BATCH = 32
_ENTRY = RetrieverEntry(name="splade", kind="splade", parts=["sparse"])


def own_engines(corpus: SparseCorpus, work: Path, limit: int) -> list[Engine]:
    """One index, searched in several ways; "bare" leaves out all above one segment's postings."""
    index = sparse_index(work / f"index-{corpus.name}-{corpus.key}", _ENTRY, corpus.documents)
    queries = sparse_vectors(corpus.queries)
    vectors = [QueryVector(sparse=query) for query in queries]
    snapshot = index.snapshot
    segment = snapshot.segments[0]
    everything = snapshot.allowed(None)

    def searched(mode: SparseMode, batch: int, name: str) -> Engine:
        def search(numbers: Sequence[int]) -> list[Rows]:
            asked = [vectors[number] for number in numbers]
            found = snapshot.search_batch(_ENTRY.name, asked, limit, everything, mode)
            return [ranking.rows for ranking in found]

        return Engine(name, search, index.build_s, index.n_bytes, batch)

    def bare(numbers: Sequence[int]) -> list[Rows]:
        asked = [queries[number] for number in numbers]
        return [f.rows for f in search_postings(segment, _ENTRY.name, asked, limit, None, "exact")]

    return [
        searched("exact", 1, "evident-exact"),
        searched("two_step", 1, "evident-two-step"),
        searched("u8", 1, "evident-u8"),
        searched("exact", BATCH, "evident-exact-batch"),
        searched("two_step", BATCH, "evident-two-step-batch"),
        Engine("evident-exact-bare", bare, index.build_s, index.n_bytes),
    ]


def sparse_vectors(rows: SparseRows) -> list[SparseVector]:
    """Each row with its terms spelt out, as a retriever's queries are."""
    spans = [slice(int(a), int(b)) for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)]
    return [
        SparseVector(
            [rows.vocabulary[term] for term in rows.term_ids[span].tolist()],
            rows.weights[span].tolist(),
        )
        for span in spans
    ]

"""Questions → fused candidates: encode, search each retriever, fuse. Single and batched alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from indexes.errors import UsageError
from indexes.filters import Filter
from indexes.manifest import Manifest
from indexes.representation import Mask, QueryVector, Ranking
from indexes.snapshot import Snapshot
from rag.fusion import Candidate, Ranked, fuse
from rag.retrievers.retriever import EncodedQuery, Retriever
from rag.search import Fusion, RetrieverChoice
from rag.stopwatch import Stopwatch

WEIGHTS = {"gear": 0.4}
"""How much a kind of retriever counts in a hybrid that names none, where that is not 1.

Picked on NFCorpus dev, fused as `weighted` with BM25, MiniLM, SPLADE and the duplex.
"""


class RankedQuery(msgspec.Struct, frozen=True):
    """One question's outcome: its candidates, and its vector under each retriever.

    `searched` are the vectors, or the parts of them, that were searched by.
    """

    candidates: list[Candidate]
    vectors: dict[str, QueryVector]
    searched: dict[str, QueryVector]
    truncated: list[str]


def rank(
    snapshot: Snapshot,
    retrievers: Mapping[str, Retriever],
    queries: Sequence[str],
    choices: Sequence[RetrieverChoice],
    fusion: Fusion,
    limit: int,
    chosen: Filter | None,
    watch: Stopwatch,
) -> Iterator[RankedQuery]:
    """Rank documents for each query; queries are encoded together, results come one by one."""
    with watch.stage("encode"):
        encoded = {
            choice.name: retrievers[choice.name].encode_queries(queries) for choice in choices
        }
    with watch.stage("filter"):
        allowed = snapshot.allowed(chosen)
    for number in range(len(queries)):
        mine = {name: vectors[number] for name, vectors in encoded.items()}
        yield _rank_one(snapshot, mine, choices, fusion, limit, allowed, watch)


def searched(vector: QueryVector, choice: RetrieverChoice) -> QueryVector:
    """What is searched by: the vector, or what was chosen of its parts. Raises `UsageError`."""
    if choice.dense_weight != 1:
        return _weighed(vector, choice)
    if choice.part == "both":
        return vector
    sparse, dense = (vector.sparse, None) if choice.part == "sparse" else (None, vector.dense)
    if sparse is None and dense is None:
        raise UsageError(f"{choice.name} has no {choice.part} part")
    return QueryVector(sparse, dense)


def _weighed(vector: QueryVector, choice: RetrieverChoice) -> QueryVector:
    if vector.sparse is None or vector.dense is None or choice.part != "both":
        raise UsageError(f"{choice.name}: dense_weight needs two parts that are added")
    return QueryVector(vector.sparse, vector.dense * vector.dense.dtype.type(choice.dense_weight))


def query_warnings(ranked: RankedQuery) -> list[str]:
    """What a person should know about how the query was read."""
    warnings = [
        f"{name} read only the beginning of the query: it is longer than the model's limit"
        for name in ranked.truncated
    ]
    warnings += [
        f"{name} found no searchable term in the query"
        for name, vector in ranked.vectors.items()
        if vector.sparse is not None and not vector.sparse.terms
    ]
    return warnings


def _rank_one(
    snapshot: Snapshot,
    encoded: Mapping[str, EncodedQuery],
    choices: Sequence[RetrieverChoice],
    fusion: Fusion,
    limit: int,
    allowed: Sequence[Mask | None],
    watch: Stopwatch,
) -> RankedQuery:
    rankings: dict[str, Ranked] = {}
    asked: dict[str, QueryVector] = {}
    for choice in choices:
        with watch.stage(f"search.{choice.name}"):
            asked[choice.name] = vector = searched(encoded[choice.name].vector, choice)
            # A ranking alone is not fused: what is not shown need not be found.
            wanted = limit if len(choices) == 1 else max(choice.limit, limit)
            found = snapshot.search(choice.name, vector, wanted, allowed)
            rankings[choice.name] = _keyed(snapshot, found, choice.weight)
    with watch.stage("fuse"):
        candidates = fuse(rankings, fusion, limit)
    return RankedQuery(
        candidates,
        {name: query.vector for name, query in encoded.items()},
        asked,
        [name for name, query in encoded.items() if query.truncated],
    )


def _keyed(snapshot: Snapshot, found: Ranking, weight: float) -> Ranked:
    documents = snapshot.documents_of(found.rows)
    return Ranked(documents.tolist(), found.rows.tolist(), found.scores.tolist(), weight)


def choices_of(manifest: Manifest, wanted: Sequence[RetrieverChoice]) -> list[RetrieverChoice]:
    """The retrievers to use: those wanted, else all of the index, each as much as its kind counts.

    Raises `UsageError`.
    """
    if not wanted:
        entries = manifest.retrievers
        return [RetrieverChoice(e.name, weight=WEIGHTS.get(e.kind, 1.0)) for e in entries]
    names = [choice.name for choice in wanted]
    if len(set(names)) != len(names):
        raise UsageError("a retriever is named twice")
    return list(wanted)

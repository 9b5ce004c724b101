"""The stages before compression, one at a time: encode, retrieve, fuse, locate.

What comes in was sent by a client, so it is checked against the index before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from indexes.errors import Conflict, InvalidInput
from indexes.representation import QueryVector, SparseVector
from indexes.snapshot import Snapshot
from rag.answering import threshold_of
from rag.evidence import evidence_strengths, strong_enough
from rag.fusion import Ranked, fuse
from rag.hits import hits_of
from rag.locating import LocatedHit, highlighted, point
from rag.ranking import RankedQuery, query_warnings, searched
from rag.retrievers.retriever import Retriever
from rag.search import RetrieverChoice, SearchRequest
from rag.staged import (
    Encoded,
    EncodeRequest,
    Found,
    Fused,
    FuseRequest,
    Located,
    LocateRequest,
    QueryCode,
    Retrieved,
    RetrieveRequest,
    RetrieverRanking,
    SparseTerms,
)
from rag.stopwatch import Stopwatch

if TYPE_CHECKING:
    from rag.gear.locator import Locator


def encode(
    snapshot: Snapshot,
    retrievers: Mapping[str, Retriever],
    choices: Sequence[RetrieverChoice],
    request: EncodeRequest,
    watch: Stopwatch,
) -> Encoded:
    """The query as each retriever represents it."""
    with watch.stage("encode"):
        encoded = {c.name: retrievers[c.name].encode_queries([request.query])[0] for c in choices}
    vectors = {name: query.vector for name, query in encoded.items()}
    cut = [name for name, query in encoded.items() if query.truncated]
    return Encoded(
        index=request.index,
        index_version=snapshot.manifest.version,
        query=request.query,
        retrievers=list(choices),
        codes=[_code(name, vector) for name, vector in vectors.items()],
        truncated=bool(cut),
        timings_ms=watch.total(),
        warnings=query_warnings(RankedQuery([], vectors, vectors, cut)),
    )


def retrieve(snapshot: Snapshot, request: RetrieveRequest, watch: Stopwatch) -> Retrieved:
    """Each retriever's documents. Raises `Conflict` when the index has changed meanwhile."""
    _check_version(snapshot, request)
    vectors = _vectors(snapshot, request)
    with watch.stage("filter"):
        allowed = snapshot.allowed(request.filter)
    rankings = []
    for choice in request.retrievers:
        limit = max(choice.limit, request.limit)
        with watch.stage(f"search.{choice.name}"):
            best = snapshot.search(
                choice.name, searched(vectors[choice.name], choice), limit, allowed
            )
        rows = best.rows.tolist()
        rankings.append(
            RetrieverRanking(
                choice.name,
                [
                    Found(key, row, score)
                    for key, row, score in zip(
                        snapshot.ids_of(rows), rows, best.scores.tolist(), strict=True
                    )
                ],
            )
        )
    return Retrieved(**_encoded(request), rankings=rankings, timings_ms=watch.total())


def fuse_rankings(snapshot: Snapshot, request: FuseRequest, watch: Stopwatch) -> Fused:
    """One ranking of all, with texts and highlights. Raises `Conflict` and `InvalidInput`."""
    _check_version(snapshot, request)
    weights = {choice.name: choice.weight for choice in request.retrievers}
    if [ranking.name for ranking in request.rankings] != list(weights):
        raise InvalidInput("there must be one ranking for each retriever, in order", "/rankings")
    rankings = {}
    for number, one in enumerate(request.rankings):
        rows = [found.row for found in one.found]
        _check_rows(snapshot, rows, f"/rankings/{number}")
        documents = snapshot.documents_of(np.array(rows, dtype=np.int64)).tolist()
        scores = [found.score for found in one.found]
        rankings[one.name] = Ranked(documents, rows, scores, weights[one.name])
    with watch.stage("fuse"):
        candidates = fuse(rankings, request.fusion, request.limit)
    lookup = SearchRequest(request.index, request.query, limit=request.limit)
    with watch.stage("fetch"):
        hits = hits_of(snapshot, lookup, RankedQuery(candidates, {}, {}, []))
    rows = [candidate.row for candidate in candidates]
    return Fused(**_encoded(request), hits=hits, rows=rows, timings_ms=watch.total())


def locate(
    snapshot: Snapshot,
    request: LocateRequest,
    locator: Callable[[], Locator],
    watch: Stopwatch,
) -> Located:
    """The hits that are strong enough, and their sentences. Raises `Conflict`, `InvalidInput`.

    The locator is loaded only where sentences are asked for.
    """
    _check_version(snapshot, request)
    if len(request.rows) != len(request.hits):
        raise InvalidInput("there must be one row for each hit", "/rows")
    _check_rows(snapshot, request.rows, "/rows")
    if snapshot.ids_of(request.rows) != [hit.id for hit in request.hits]:
        raise InvalidInput("these are not the rows of the hits", "/rows")
    with watch.stage("evidence"):
        strengths = evidence_strengths(snapshot, _vectors(snapshot, request), request.rows)
        evidence = strong_enough(request.hits, strengths, threshold_of(request.min_evidence))
    located: list[LocatedHit] = []
    if request.point is not None and evidence:
        with watch.stage("load"):
            opened = locator()
        with watch.stage("point"):
            located = point(opened, request.query, evidence, request.point)
        evidence = highlighted(evidence, located)
    return Located(
        index=request.index,
        index_version=request.index_version,
        query=request.query,
        evidence=evidence,
        strengths=strengths,
        located=located,
        truncated=request.truncated,
        timings_ms=watch.total(),
        warnings=request.warnings,
    )


def _encoded(request: Encoded) -> dict[str, Any]:
    """What a stage hands on as it got it."""
    names = ("index", "index_version", "query", "retrievers", "codes", "truncated", "warnings")
    return {name: getattr(request, name) for name in names}


def _code(name: str, vector: QueryVector) -> QueryCode:
    sparse, dense = vector.sparse, vector.dense
    return QueryCode(
        name,
        None if sparse is None else SparseTerms(list(sparse.terms), list(sparse.weights)),
        None if dense is None else [float(value) for value in dense],
    )


def _vectors(snapshot: Snapshot, request: Encoded) -> dict[str, QueryVector]:
    """The codes as vectors, each checked against the retriever that it names."""
    names = [choice.name for choice in request.retrievers]
    if [code.name for code in request.codes] != names or len(set(names)) != len(names):
        raise InvalidInput("there must be one code for each retriever, in order", "/codes")
    return {
        code.name: _vector(snapshot, code, f"/codes/{number}")
        for number, code in enumerate(request.codes)
    }


def _vector(snapshot: Snapshot, code: QueryCode, pointer: str) -> QueryVector:
    parts = {"sparse": code.sparse, "dense": code.dense}
    given = {name for name, part in parts.items() if part is not None}
    if given != set(snapshot.retriever(code.name).parts):
        raise InvalidInput(f"{code.name} represents queries otherwise", pointer)
    sparse = code.sparse
    if sparse is not None and not len(set(sparse.tokens)) == len(sparse.tokens) == len(
        sparse.values
    ):
        raise InvalidInput("there must be one value for each token, once", f"{pointer}/sparse")
    if code.dense is not None and snapshot.dimension(code.name) not in {None, len(code.dense)}:
        raise InvalidInput("the vector has the wrong length", f"{pointer}/dense")
    return QueryVector(
        None if sparse is None else SparseVector(sparse.tokens, sparse.values),
        None if code.dense is None else np.array(code.dense, dtype=np.float32),
    )


def _check_version(snapshot: Snapshot, request: Encoded) -> None:
    current = snapshot.manifest.version
    if request.index_version != current:
        raise Conflict(f"the index is at version {current}, not {request.index_version}: encode")


def _check_rows(snapshot: Snapshot, rows: Sequence[int], pointer: str) -> None:
    """Raise `InvalidInput` for rows that no search could have found."""
    if not snapshot.are_live(rows):
        raise InvalidInput("the index has no such row", pointer)

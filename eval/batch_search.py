"""Search an index for many queries: encoded together, ranked one by one, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from eval.run import Run, strictly_decreasing
from indexes.errors import InvalidInput, UsageError
from indexes.snapshot import Snapshot
from rag.progress import Progress
from rag.ranking import choices_of, rank
from rag.search import MAX_LIMIT, Fusion, RetrieverChoice
from rag.service import Service
from rag.stopwatch import Stopwatch

BATCH_QUERIES = 256


class SearchPlan(msgspec.Struct, frozen=True):
    """How to search. No `choices` means all retrievers of the index; `limit` is documents a query.

    With `drop_self` a document of the query's own id is taken out before cutting to `limit`.
    """

    choices: list[RetrieverChoice] = []
    fusion: Fusion = Fusion()
    limit: int = 100
    drop_self: bool = False


def check_plan(plan: SearchPlan) -> None:
    """Raise `UsageError` for a limit that no search can have."""
    most = MAX_LIMIT - plan.drop_self
    if not 1 <= plan.limit <= most:
        raise UsageError(f"the limit is {plan.limit}: it goes from 1 to {most}")


def search_all(
    service: Service, index: str, queries: Mapping[str, str], plan: SearchPlan, progress: Progress
) -> Run:
    """The run: for each query at most `limit` documents, scores strictly decreasing.

    `queries` maps ids to texts; `BATCH_QUERIES` of them are encoded at a time. Scores are those
    that `write_run` would write, so that a stored run and this one score alike.
    """
    check_plan(plan)
    snapshot = service.snapshot(index)
    choices = choices_of(snapshot.manifest, plan.choices)
    retrievers = service.retrievers(snapshot, [choice.name for choice in choices])
    watch = Stopwatch()
    run: Run = {}
    progress.start("searching", len(queries), "query")
    for batch in _batches(queries):
        texts = [queries[query_id] for query_id in batch]
        found = rank(
            snapshot,
            retrievers,
            texts,
            choices,
            plan.fusion,
            plan.limit + plan.drop_self,
            None,
            watch,
        )
        for query_id, ranked in zip(batch, found, strict=True):
            ids = snapshot.ids_of([candidate.row for candidate in ranked.candidates])
            scores = [candidate.score for candidate in ranked.candidates]
            run[query_id] = _cut(query_id, ids, scores, plan)
            progress.advance(1)
    progress.finish()
    return run


def check_judged(snapshot: Snapshot, relevant: set[str]) -> int:
    """How many of these documents the index lacks. Raises `InvalidInput` when it has none of them.

    An index of other documents would score 0 and look like a poor one.
    """
    lacking = relevant - set(snapshot.live_ids())
    if relevant and lacking == relevant:
        raise InvalidInput(
            f"the index {snapshot.manifest.name!r} holds none of the {len(relevant)} relevant "
            "documents: it was built from another corpus"
        )
    return len(lacking)


def _cut(
    query_id: str, ids: Sequence[str], scores: Sequence[float], plan: SearchPlan
) -> dict[str, float]:
    pairs = zip(ids, scores, strict=True)
    kept = [pair for pair in pairs if not (plan.drop_self and pair[0] == query_id)]
    return dict(strictly_decreasing(dict(kept[: plan.limit])))


def _batches(queries: Mapping[str, str]) -> Iterator[list[str]]:
    ids = iter(queries)
    while batch := list(islice(ids, BATCH_QUERIES)):
        yield batch

"""Re-rank a stored run: the same documents for each query, in another order.

What a first stage found is fixed, so figures published for re-rankers over the same run can be
compared. Each query's documents are scored exactly (by a mask, not by a deep search), those that no
retriever scores keep their old order below the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from eval.batch_search import SearchPlan
from eval.configuration import index_config, search_config
from eval.dataset import Dataset, name_some
from eval.latency import by_stage, peak_rss_bytes
from eval.machine import describe_machine
from eval.measures import DEFAULT_MEASURES, score_run, trec_order
from eval.qrels import Qrels
from eval.record import RunRecord, index_facts
from eval.retrieval import dataset_facts
from eval.run import Run, read_run, strictly_decreasing
from eval.stored_run import now, tool_version
from indexes.errors import InvalidInput
from indexes.files import folder_bytes, sha256_of
from indexes.snapshot import Snapshot
from rag.fusion import Ranked, fuse
from rag.progress import Progress
from rag.ranking import choices_of
from rag.retrievers.retriever import Retriever
from rag.search import RetrieverChoice
from rag.service import Service
from rag.stopwatch import Stopwatch


class StoredRun(msgspec.Struct, frozen=True):
    """The run to re-rank, with what identifies it."""

    name: str
    sha256: str
    run: Run


def read_stored_run(path: Path) -> StoredRun:
    """Read the run of that file. Raises as `read_run` does."""
    return StoredRun(name=path.name, run=read_run(path), sha256=sha256_of(path))


def rerank(
    service: Service,
    index: str,
    dataset: Dataset,
    stored: StoredRun,
    plan: SearchPlan,
    progress: Progress,
    *,
    name: str,
    qrels: Qrels | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> tuple[Run, RunRecord]:
    """Re-rank the judged queries' documents and score; `limit` of the plan is the depth re-ranked.

    Raises `InvalidInput` for a run without any judged query, and for documents the index lacks.
    """
    snapshot = service.snapshot(index)
    qrels = dataset.qrels if qrels is None else qrels
    queries = {query_id: dataset.queries[query_id].text for query_id in dataset.queries}
    judged = _judged(stored.run, queries, snapshot)
    choices = choices_of(snapshot.manifest, plan.choices)
    retrievers = service.retrievers(snapshot, [choice.name for choice in choices])
    run: Run = {}
    timings = []
    progress.start("re-ranking", len(judged), "query")
    for query_id, scores in judged.items():
        watch = Stopwatch()
        order = trec_order(scores)[: plan.limit]
        run[query_id] = _rerank_one(
            snapshot, retrievers, queries[query_id], order, choices, plan, watch
        )
        timings.append(watch.total())
        progress.advance(1)
    progress.finish()
    result = score_run(qrels, run, measures)
    record = RunRecord(
        name=name,
        task="rerank",
        dataset=dataset_facts(dataset, qrels),
        config={
            "run": stored.name,
            "run_sha256": stored.sha256,
            "index": index_config(snapshot.manifest),
            "search": search_config(snapshot.manifest, plan),
        },
        measures=result.measures,
        per_query=result.per_query,
        n_queries=result.n_queries,
        n_missing=result.n_missing,
        tool_version=tool_version(),
        machine=describe_machine(),
        created=now(),
        index=index_facts(snapshot.manifest, folder_bytes(snapshot.folder)),
        latency=by_stage(timings),
        peak_rss_bytes=peak_rss_bytes(),
    )
    return run, record


def _judged(run: Run, queries: Mapping[str, str], snapshot: Snapshot) -> Run:
    """The judged queries' part of the run, every document of which the index has."""
    judged = {query_id: scores for query_id, scores in run.items() if query_id in queries}
    if not judged:
        raise InvalidInput(f"the data set has none of the run's queries: {name_some(sorted(run))}")
    lacking = {key for scores in judged.values() for key in scores} - set(snapshot.live_ids())
    if lacking:
        raise InvalidInput(
            f"the run has documents that the index lacks: {name_some(sorted(lacking))}"
        )
    return judged


def _rerank_one(
    snapshot: Snapshot,
    retrievers: Mapping[str, Retriever],
    query: str,
    order: Sequence[str],
    choices: Sequence[RetrieverChoice],
    plan: SearchPlan,
    watch: Stopwatch,
) -> dict[str, float]:
    """The documents of `order`, scored anew."""
    with watch.stage("filter"):
        allowed = snapshot.rows_of(order)
    rankings: dict[str, Ranked] = {}
    for choice in choices:
        with watch.stage(f"encode.{choice.name}"):
            vector = retrievers[choice.name].encode_queries([query])[0].vector
        with watch.stage(f"search.{choice.name}"):
            found = snapshot.search(choice.name, vector, len(order), allowed)
            keys = snapshot.documents_of(found.rows).tolist()
            scores = found.scores.tolist()
            rankings[choice.name] = Ranked(keys, found.rows.tolist(), scores, choice.weight)
    with watch.stage("fuse"):
        candidates = fuse(rankings, plan.fusion, len(order))
        ids = snapshot.ids_of([candidate.row for candidate in candidates])
        scored = {key: c.score for key, c in zip(ids, candidates, strict=True)}
        return dict(strictly_decreasing(_with_rest(scored, order)))


def _with_rest(scored: dict[str, float], order: Sequence[str]) -> dict[str, float]:
    """The scores, and below them the documents that got none, in their old order."""
    lowest = min(scored.values(), default=0.0)
    rest = [key for key in order if key not in scored]
    return scored | {key: lowest - place for place, key in enumerate(rest, start=1)}

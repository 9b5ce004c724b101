"""One configuration over one retrieval data set: search, score, and note all that made it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from eval.batch_search import SearchPlan, check_judged, search_all
from eval.configuration import digest_of, index_config, search_config
from eval.dataset import Dataset
from eval.machine import describe_machine
from eval.measures import DEFAULT_MEASURES, score_run
from eval.qrels import Qrels
from eval.record import DatasetFacts, RunRecord, index_facts, record_path, write_record
from eval.run import Run, write_run
from eval.serving import SERVED_HITS, measure_serving
from eval.stored_run import now, tool_version
from indexes.files import folder_bytes, sha256_of
from indexes.manifest import Manifest
from rag.progress import Progress
from rag.search import MAX_QUERY_CHARS, SearchRequest
from rag.service import Service

DEFAULT_TIMED = 50


class RetrievalPlan(msgspec.Struct, frozen=True):
    """What to measure. `n_timed` queries, drawn by `seed`, are served one at a time; 0: none."""

    search: SearchPlan
    measures: Sequence[str] = DEFAULT_MEASURES
    n_timed: int = DEFAULT_TIMED
    seed: int = 0


def evaluate_retrieval(
    service: Service,
    index: str,
    dataset: Dataset,
    plan: RetrievalPlan,
    progress: Progress,
    *,
    name: str,
    qrels: Qrels | None = None,
) -> tuple[Run, RunRecord]:
    """Search, score and time; `qrels` replace the data set's own judgements.

    Raises `InvalidInput` when the index holds none of the relevant documents, `UsageError` for
    retrievers it does not have.
    """
    snapshot = service.snapshot(index)
    qrels = dataset.qrels if qrels is None else qrels
    relevant = {key for judged in dataset.qrels.values() for key in judged if judged[key] > 0}
    n_lacking = check_judged(snapshot, relevant)
    if n_lacking:
        progress.note(f"{n_lacking} of {len(relevant)} relevant documents are not in the index")
    queries = {query.id: query.text for query in dataset.queries.values()}
    began = time.perf_counter()
    run = search_all(service, index, queries, plan.search, progress)
    batch_ms = round((time.perf_counter() - began) * 1000)
    scores = score_run(qrels, run, plan.measures)
    record = RunRecord(
        name=name,
        task="beir",
        dataset=dataset_facts(dataset, qrels),
        config=retrieval_config(snapshot.manifest, plan),
        measures=scores.measures,
        per_query=scores.per_query,
        n_queries=scores.n_queries,
        n_missing=scores.n_missing,
        tool_version=tool_version(),
        machine=describe_machine(),
        created=now(),
        index=index_facts(snapshot.manifest, folder_bytes(snapshot.folder)),
        counts={
            "n_hits": sum(map(len, run.values())),
            "n_relevant_not_indexed": n_lacking,
            "batch_ms": batch_ms,
        },
    )
    return run, _timed(record, service, index, queries, plan, progress)


def retrieval_config(manifest: Manifest, plan: RetrievalPlan) -> dict[str, Any]:
    """The configuration of a retrieval run; two runs with equal ones may stand for each other."""
    return {
        "index": index_config(manifest),
        "search": search_config(manifest, plan.search),
        "timed": {"n_queries": plan.n_timed, "seed": plan.seed, "hits": SERVED_HITS},
    }


def dataset_facts(dataset: Dataset, qrels: Qrels) -> DatasetFacts:
    """The data set by name, split and the hash of its questions."""
    texts = {query.id: query.text for query in dataset.queries.values()}
    return DatasetFacts(dataset.name, dataset.split, digest_of(texts, qrels))


def store_run(path: Path, run: Run, record: RunRecord) -> RunRecord:
    """Write the run and its record beside it; the record then names the run's hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_run(path, run, "".join(record.name.split()) or "run")
    stored = msgspec.structs.replace(record, run=path.name, run_sha256=sha256_of(path))
    write_record(record_path(path), stored)
    return stored


def _timed(
    record: RunRecord,
    service: Service,
    index: str,
    queries: dict[str, str],
    plan: RetrievalPlan,
    progress: Progress,
) -> RunRecord:
    """The record with what serving costs: a sample of the queries, one after the other."""
    if not plan.n_timed or not queries:
        return record
    # One more than is timed: the first is the cold start.
    generator = np.random.default_rng(plan.seed)
    ids = generator.choice(sorted(queries), size=plan.n_timed + 1).tolist()
    progress.note(f"timing {plan.n_timed} queries, one at a time")
    requests = [
        SearchRequest(
            index=index,
            query=queries[query_id][:MAX_QUERY_CHARS],
            limit=SERVED_HITS,
            retrievers=plan.search.choices,
            fusion=plan.search.fusion,
        )
        for query_id in ids
    ]
    cost = measure_serving(service.settings, requests)
    return msgspec.structs.replace(
        record,
        latency=cost.latency,
        cold_start_ms=cost.cold_start_ms,
        peak_rss_bytes=cost.peak_rss_bytes,
    )

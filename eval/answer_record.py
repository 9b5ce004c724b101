"""The record of a run of answers, and the file of answers that it stands beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eval.ask import Answered, AnswerPlan, token_counts
from eval.configuration import answer_config, generator_facts, index_config, search_config
from eval.latency import peak_rss_bytes
from eval.lines import write_json_lines
from eval.machine import describe_machine
from eval.qa_measures import average
from eval.record import DatasetFacts, RunRecord, index_facts, record_path, write_record
from eval.stored_run import now, tool_version
from indexes.files import folder_bytes, sha256_of
from rag.service import Service


def answer_record(
    service: Service,
    index: str,
    dataset: DatasetFacts,
    plan: AnswerPlan,
    answered: Answered,
    rows: Mapping[str, Mapping[str, float]],
    *,
    task: str,
    name: str,
) -> RunRecord:
    """The record; `rows` holds each question's measures, those that apply to it.

    Each mean runs over the questions that have the measure. `n_missing` counts the questions for
    which no evidence was found; `peak_rss_bytes` is the whole process', the build's if it built.
    """
    snapshot = service.snapshot(index)
    counts = token_counts(answered.responses)
    return RunRecord(
        name=name,
        task=task,
        dataset=dataset,
        config={
            "index": index_config(snapshot.manifest),
            "search": search_config(snapshot.manifest, plan.search),
            "answer": answer_config(plan, service.settings),
        },
        measures=average(rows.values()).mean,
        per_query=by_measure(rows),
        n_queries=len(rows),
        n_missing=counts["n_no_evidence"],
        tool_version=tool_version(),
        machine=describe_machine(),
        created=now(),
        index=index_facts(snapshot.manifest, folder_bytes(snapshot.folder)),
        models=[generator_facts(service.settings)],
        latency=answered.latency,
        cold_start_ms=answered.cold_start_ms,
        peak_rss_bytes=peak_rss_bytes(),
        counts=counts,
    )


def by_measure(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Question to measure to value, turned into measure to question to value."""
    found: dict[str, dict[str, float]] = {}
    for key, row in rows.items():
        for measure, value in row.items():
            found.setdefault(measure, {})[key] = value
    return found


def store_answers(path: Path, rows: Sequence[Any], record: RunRecord) -> RunRecord:
    """Write the answers as JSON lines and the record beside them, which then names their hash."""
    write_json_lines(path, rows)
    stored = msgspec.structs.replace(record, run=path.name, run_sha256=sha256_of(path))
    write_record(record_path(path), stored)
    return stored

"""Runs that lie on disk: scored anew, or taken from the record beside them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from eval.machine import describe_machine
from eval.measures import DEFAULT_MEASURES, score_run
from eval.qrels import Qrels
from eval.record import DatasetFacts, RunRecord, read_record, run_name
from eval.run import read_run
from indexes.errors import UsageError
from indexes.files import sha256_of


def score_stored_run(
    path: Path, qrels: Qrels, dataset: DatasetFacts, measures: Sequence[str] = DEFAULT_MEASURES
) -> RunRecord:
    """Score a run that somebody made. What made it is not known: its hash stands for it."""
    scores = score_run(qrels, read_run(path), measures)
    digest = sha256_of(path)
    return RunRecord(
        name=run_name(path),
        task="beir",
        dataset=dataset,
        config={"run": path.name, "run_sha256": digest},
        measures=scores.measures,
        per_query=scores.per_query,
        n_queries=scores.n_queries,
        n_missing=scores.n_missing,
        tool_version=tool_version(),
        machine=describe_machine(),
        created=now(),
        run=path.name,
        run_sha256=digest,
    )


def load_runs(
    paths: Sequence[Path], qrels: Qrels | None, dataset: DatasetFacts, measures: Sequence[str]
) -> dict[str, RunRecord]:
    """Records by name, in the order given; with judgements every run is scored anew by them.

    Raises `UsageError` when two of the runs have one name.
    """
    found: dict[str, RunRecord] = {}
    for path in paths:
        if qrels is None:
            record = read_record(path)
        else:
            record = score_stored_run(path, qrels, dataset, measures or DEFAULT_MEASURES)
        if record.name in found:
            raise UsageError(f"two of the runs are called {record.name!r}")
        found[record.name] = record
    return found


def tool_version() -> str:
    """Name and version of the tool, as records have it."""
    return f"evident-rag {version('evident-rag')}"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

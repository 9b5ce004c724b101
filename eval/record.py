"""What stands beside every run: the numbers, and everything that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from eval.latency import Latency
from eval.machine import Machine
from indexes.errors import InvalidInput, MalformedInput, NotFound
from indexes.files import write_durably
from indexes.manifest import Manifest

_RUN_ENDINGS = (".trec.gz", ".trec", ".jsonl.gz", ".jsonl")
RECORD_ENDING = ".record.json"


class ModelFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model that took part, by the hash of its weights."""

    name: str
    revision: str
    sha256: str


class IndexFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The index that was searched, as its manifest describes it; `bytes` is its size on disk."""

    name: str
    version: int
    n_documents: int
    n_passages: int
    bytes: int
    corpus_sha256: str
    analyzer_sha256: str
    tool: str
    models: list[ModelFacts]


class DatasetFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data set that was asked; `questions_sha256` is over its queries and judgements."""

    name: str
    split: str
    questions_sha256: str = ""


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measured configuration.

    `config` is the whole configuration. `measures` are means over the `n_queries` judged queries;
    `per_query` their values by measure and query. `latency` is by stage. `cold_start_ms` runs from
    opening the index to the first answer; `run_sha256` is the hash of the run file `run`.
    `index` is absent for runs that came from elsewhere.
    """

    name: str
    task: str
    dataset: DatasetFacts
    config: dict[str, Any]
    measures: dict[str, float]
    per_query: dict[str, dict[str, float]]
    n_queries: int
    n_missing: int
    tool_version: str
    machine: Machine
    created: str
    run: str = ""
    run_sha256: str = ""
    index: IndexFacts | None = None
    models: list[ModelFacts] = []
    latency: dict[str, Latency] = {}
    cold_start_ms: float | None = None
    peak_rss_bytes: int | None = None
    counts: dict[str, int] = {}


def index_facts(manifest: Manifest, size_bytes: int) -> IndexFacts:
    """The facts of an index that a number must carry."""
    return IndexFacts(
        name=manifest.name,
        version=manifest.version,
        n_documents=manifest.n_documents,
        n_passages=manifest.n_passages,
        bytes=size_bytes,
        corpus_sha256=manifest.corpus_sha256,
        analyzer_sha256=manifest.analyzer_sha256,
        tool=manifest.tool,
        models=[
            ModelFacts(entry.model, entry.revision, entry.sha256)
            for entry in manifest.retrievers
            if entry.model
        ],
    )


def record_path(run_path: Path) -> Path:
    """Where the record of a run lies: `x.trec.gz` has `x.record.json` beside it."""
    for ending in _RUN_ENDINGS:
        if run_path.name.endswith(ending):
            return run_path.with_name(run_path.name.removesuffix(ending) + RECORD_ENDING)
    return run_path.with_name(run_path.name + RECORD_ENDING)


def run_name(run_path: Path) -> str:
    """The name of a run: that of its file, without the ending."""
    return record_path(run_path).name.removesuffix(RECORD_ENDING)


def write_record(path: Path, record: RunRecord) -> None:
    """Write the record as readable JSON in one atomic step."""
    write_durably(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")


def read_record(path: Path) -> RunRecord:
    """Read a record, given its own path or that of its run.

    Raises `NotFound`, `MalformedInput` (no JSON) and `InvalidInput` (JSON of another shape).
    """
    file = path if path.name.endswith(RECORD_ENDING) else record_path(path)
    try:
        return msgspec.json.decode(file.read_bytes(), type=RunRecord)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"there is no record {file}") from error
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{file} is no run record: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedInput(f"{file} is not JSON: {error}") from error

"""Data sets × configurations, from a TOML file; what was measured before is not measured again.

::

    measures = ["nDCG@10", "R@100"]         # ir-measures strings

    [[datasets]]
    name = "scifact"                        # in tables and file names
    path = "beir/scifact"                   # below the data folder: a BEIR folder
    split = "test"                          # left out: `test`, else the only one there is

    [[configurations]]
    name = "hybrid"
    retrievers = "bm25,minilm"              # what the index holds
    search = "bm25,minilm:weight=2"         # what is searched; left out: all of it
    fusion = "rrf:k=60"
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from eval.batch_search import SearchPlan
from eval.beir import read_beir
from eval.corpus_index import Corpus, IndexPlan, default_name, ensure_index
from eval.dataset import Dataset
from eval.measures import DEFAULT_MEASURES, check_measures
from eval.record import RunRecord, read_record, record_path
from eval.retrieval import (
    DEFAULT_TIMED,
    RetrievalPlan,
    dataset_facts,
    evaluate_retrieval,
    retrieval_config,
    store_run,
)
from eval.stored_run import tool_version
from indexes.errors import EvidentError, NotFound, UsageError
from indexes.passages import PassageConfig
from rag.cli.search import choices, fusion
from rag.progress import Progress
from rag.retrievers.retriever import parse_specs
from rag.service import Service

Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Table = TypeVar("Table")


class DatasetEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the matrix."""

    name: Word
    path: str
    split: str | None = None


class ConfigurationEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the matrix."""

    name: Word
    retrievers: str
    search: str = ""
    fusion: str = ""
    passage_words: Annotated[int, Meta(ge=0)] = PassageConfig().max_words


class MatrixConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. `timed` queries of each cell are served alone for its latency."""

    datasets: Annotated[list[DatasetEntry], Meta(min_length=1)]
    configurations: Annotated[list[ConfigurationEntry], Meta(min_length=1)]
    measures: tuple[str, ...] = DEFAULT_MEASURES
    limit: int = 100
    timed: Annotated[int, Meta(ge=0)] = DEFAULT_TIMED


class Cell(msgspec.Struct, frozen=True):
    """One cell's outcome; `reused` when its record was there already."""

    dataset: str
    configuration: str
    record: RunRecord
    reused: bool


def read_toml(path: Path, kind: type[Table]) -> Table:
    """A TOML file as `kind`. Raises `NotFound`, and `UsageError` for what it should not hold."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), kind)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"there is no file {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from error


def read_matrix(path: Path) -> MatrixConfig:
    """The matrix of a file. Raises as `read_toml` does, and for measures and names that clash."""
    config = read_toml(path, MatrixConfig)
    check_measures(config.measures)
    for what, entries in (("data set", config.datasets), ("configuration", config.configurations)):
        names = [entry.name for entry in entries]
        if len(set(names)) != len(names):
            raise UsageError(f"{path}: a {what}'s name is there twice")
    return config


def run_matrix(
    service: Service,
    config: MatrixConfig,
    data: Path,
    out: Path,
    progress: Progress,
    only: str = "*",
) -> Iterator[Cell]:
    """Measure cell by cell, each run and record under `out` as `DATASET.CONFIGURATION.*`.

    `only` is a shell pattern over `DATASET.CONFIGURATION`. Raises `UsageError` when it fits none.
    """
    chosen = [
        (entry, [c for c in config.configurations if fnmatchcase(f"{entry.name}.{c.name}", only)])
        for entry in config.datasets
    ]
    if not any(columns for _, columns in chosen):
        raise UsageError(f"no cell of the matrix is called {only!r}")
    for entry, columns in chosen:
        if not columns:
            continue
        dataset = msgspec.structs.replace(
            read_beir(data / entry.path, entry.split), name=entry.name
        )
        built: dict[bytes, str] = {}
        for column in columns:
            progress.note(f"{entry.name}.{column.name}")
            index = _index(service, dataset, column, built, progress)
            yield _cell(service, index, dataset, column, config, out, progress)


def _index(
    service: Service,
    dataset: Dataset,
    column: ConfigurationEntry,
    built: dict[bytes, str],
    progress: Progress,
) -> str:
    """The cell's index, built or found up to date once for all columns that share it."""
    passages = PassageConfig(max_words=column.passage_words)
    plan = IndexPlan(parse_specs(column.retrievers), passages)
    key = msgspec.json.encode(plan)
    if key not in built:
        origin = str(dataset.folder and dataset.folder.resolve())
        built[key] = default_name(dataset.name, origin, plan)
        corpus = Corpus(dataset.documents, dataset.folder)
        ensure_index(built[key], corpus, plan, service.settings, progress)
    return built[key]


def _cell(
    service: Service,
    index: str,
    dataset: Dataset,
    column: ConfigurationEntry,
    config: MatrixConfig,
    out: Path,
    progress: Progress,
) -> Cell:
    search = SearchPlan(
        choices(column.search), fusion(column.fusion), config.limit, dataset.drop_self
    )
    plan = RetrievalPlan(search, config.measures, config.timed)
    path = out / f"{dataset.name}.{column.name}.trec.gz"
    found = _finished(path, service, index, dataset, plan)
    if found is not None:
        return Cell(dataset.name, column.name, found, reused=True)
    name = f"{dataset.name}.{column.name}"
    run, record = evaluate_retrieval(service, index, dataset, plan, progress, name=name)
    return Cell(dataset.name, column.name, store_run(path, run, record), reused=False)


def _finished(
    path: Path, service: Service, index: str, dataset: Dataset, plan: RetrievalPlan
) -> RunRecord | None:
    """The cell's record, if the same tool made it of the same data by the same configuration."""
    if not path.is_file() or not record_path(path).is_file():
        return None
    try:
        record = read_record(path)
    except EvidentError:
        return None
    manifest = service.snapshot(index).manifest
    same = (
        record.config == msgspec.to_builtins(retrieval_config(manifest, plan))
        and record.dataset == dataset_facts(dataset, dataset.qrels)
        and record.index is not None
        and record.index.corpus_sha256 == manifest.corpus_sha256
        and record.tool_version == tool_version()
        and set(plan.measures) <= set(record.measures)
    )
    return record if same else None

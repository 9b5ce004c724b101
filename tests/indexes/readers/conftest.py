"""Reading inputs and keeping what was read, what was rejected and how many bytes were reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from indexes.document import Document
from indexes.readers import Read, ReaderConfig, read_documents
from indexes.rejects import Rejects


@dataclass(frozen=True)
class Outcome:
    """All that came of one run over some inputs."""

    reads: list[Read]
    rejects: list[dict[str, Any]]
    n_bytes: int

    @property
    def documents(self) -> list[Document]:
        return [read.document for read in self.reads]

    @property
    def ids(self) -> list[str]:
        return [read.document.id for read in self.reads]

    @property
    def flaws(self) -> list[tuple[int | None, str | None, str]]:
        return [(row["line"], row["id"], row["reason"]) for row in self.rejects]


ReadAll = Callable[..., Outcome]


@pytest.fixture
def read_all(tmp_path: Path) -> ReadAll:
    """Read the paths to the end."""
    reject_file = tmp_path / "of this test" / "rejects.jsonl"

    def read(*paths: Path, **config: Any) -> Outcome:
        reported: list[int] = []
        with Rejects(reject_file) as rejects:
            reads = list(
                read_documents(
                    paths, rejects, config=ReaderConfig(**config), on_bytes=reported.append
                )
            )
        rows = reject_file.read_text().splitlines() if reject_file.exists() else []
        assert len(rows) == rejects.count
        assert all(n_bytes > 0 for n_bytes in reported)
        return Outcome(reads, [json.loads(row) for row in rows], sum(reported))

    return read

"""KILT files (Petroni et al. 2021): one question a line, answers with provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from eval.dataset import name_some
from eval.lines import json_records
from indexes.errors import InvalidInput


class Output(msgspec.Struct, frozen=True):
    """One answer, its provenance, or both. `wikipedia_id` may be a number or a string."""

    answer: str | int | float | None = None
    provenance: list[dict[str, Any]] | None = None


class KiltRecord(msgspec.Struct, frozen=True):
    """One question: gold records have several outputs, guesses exactly one."""

    id: str | int
    input: str = ""
    output: list[Output] = []

    @property
    def key(self) -> str:
        """The id as files are compared by it."""
        return str(self.id).strip()


def read_kilt(path: Path) -> dict[str, KiltRecord]:
    """Records by id, in file order. Raises `InvalidInput` for a repeated id and an empty file."""
    records: dict[str, KiltRecord] = {}
    for number, record in json_records(path, KiltRecord):
        if record.key in records:
            raise InvalidInput(f"{path}, line {number}: the id {record.key!r} is there twice")
        records[record.key] = record
    if not records:
        raise InvalidInput(f"{path} holds no record")
    return records


def align(
    gold: dict[str, KiltRecord], guess: dict[str, KiltRecord]
) -> list[tuple[KiltRecord, KiltRecord]]:
    """Pairs (gold, guess) in gold order.

    Raises `InvalidInput` for gold questions without a guess, for guesses that belong to no gold
    question, for gold records without output, and for guesses without exactly one output.
    """
    if lacking := [key for key in gold if key not in guess]:
        raise InvalidInput(f"no guess for {name_some(lacking)}")
    if unknown := [key for key in guess if key not in gold]:
        raise InvalidInput(f"the guesses name unknown questions: {name_some(unknown)}")
    if empty := [key for key, record in gold.items() if not record.output]:
        raise InvalidInput(f"the gold record has no output: {name_some(empty)}")
    if several := [key for key, record in guess.items() if len(record.output) != 1]:
        raise InvalidInput(f"a guess must have exactly one output: {name_some(several)}")
    return [(record, guess[key]) for key, record in gold.items()]

"""What every `rag train` run has: what was asked, what came of it, its record by the weights."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from indexes.files import write_durably
from rag.progress import Progress
from rag.train.card import DataFacts
from rag.train.curve import CURVE, read_curve
from rag.train.loop import CHECKPOINT, Outcome
from rag.train.plot import plot_curves
from rag.train.splade_data import TrainingSet

MODEL, CANDIDATE, PLOT = "model", "candidate", "curves.svg"

Recipe = TypeVar("Recipe")


class TrainRequest(msgspec.Struct, Generic[Recipe], frozen=True):
    """What to train. `command` and `machine` are for the card; `restart` forgets what `out` has."""

    recipe_name: str
    recipe: Recipe
    data: Path
    out: Path
    command: str
    machine: str
    restart: bool = False


class TrainReport(msgspec.Struct, frozen=True):
    """What came of it: where the model lies, its scores before and after, what it cost."""

    model: str
    n_steps: int
    kept_step: int
    before: dict[str, float]
    after: dict[str, float]
    train_s: float
    measure_s: float
    sittings: int


def report_of(folder: Path, outcome: Outcome) -> TrainReport:
    """The report of a run whose model lies in `folder`."""
    best = outcome.best
    return TrainReport(
        model=str(folder),
        n_steps=outcome.n_steps,
        kept_step=outcome.n_steps if best is None else best.step,
        before=outcome.first,
        after={} if best is None else best.measures,
        train_s=outcome.train_s,
        measure_s=outcome.measure_s,
        sittings=outcome.sittings,
    )


def fingerprint_of(*facts: Any) -> str:
    """SHA-256 of what a run depends on: with another, a checkpoint is not gone on from."""
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def set_facts(sets: Sequence[TrainingSet]) -> list[DataFacts]:
    """The card's lines about sets of questions with their documents."""
    return [
        DataFacts(
            one.pairs.source.name,
            f"{one.pairs.source.folder} ({one.pairs.source.split})",
            len(one.numbers),
            len(one.pairs.documents),
            one.pairs.sha256,
        )
        for one in sets
    ]


def forget(out: Path, *more: str) -> None:
    """Remove what a folder has of a run: checkpoint, models, curve, and the folders named."""
    for name in (CHECKPOINT, CANDIDATE, MODEL, *more):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / CURVE).unlink(missing_ok=True)


def write_record(out: Path, card: str, progress: Progress) -> None:
    """Write the card and the curves of the run in `out` beside its weights."""
    folder = out / MODEL
    write_durably(folder / "README.md", card.encode())
    shutil.copyfile(out / CURVE, folder / CURVE)
    draw_curves(folder / CURVE, folder / PLOT, progress)


def draw_curves(curve: Path, plot: Path, progress: Progress) -> None:
    """Plot a curve file; where matplotlib is missing that is said and nothing is drawn."""
    try:
        drawn = plot_curves(read_curve(curve))
    except ImportError:
        progress.note("no plot of the curves: matplotlib is not installed (evident-rag[eval])")
        return
    write_durably(plot, drawn.encode())

"""`rag train dupmae`: from a recipe to a folder that a duplex retriever opens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from indexes.files import write_durably
from rag.config import Settings
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.train.card import DataFacts, RunFacts, model_card
from rag.train.curve import CURVE
from rag.train.dev import PICK, DevSet, Measure
from rag.train.dupmae.network import DuplexNetwork
from rag.train.dupmae.passages import Passages, read_passages
from rag.train.dupmae.pretraining import PretrainingTask
from rag.train.dupmae.recipe import DupmaeRecipe
from rag.train.dupmae.task import DuplexTask
from rag.train.loop import Outcome, train
from rag.train.run_lock import run_lock
from rag.train.splade_data import TrainingSet, read_sets
from rag.train.training_run import (
    CANDIDATE,
    MODEL,
    TrainRequest,
    draw_curves,
    fingerprint_of,
    forget,
    set_facts,
)

PRETRAINING = "pretraining"


class PhaseReport(msgspec.Struct, frozen=True):
    """One phase: pre-training, or a stage of fine-tuning; its scores before and after."""

    name: str
    n_steps: int
    kept_step: int
    before: dict[str, float]
    after: dict[str, float]
    train_s: float
    measure_s: float


class DupmaeReport(msgspec.Struct, frozen=True):
    """What came of it: where the model lies, and each phase."""

    model: str
    phases: list[PhaseReport]


def train_dupmae(
    request: TrainRequest[DupmaeRecipe], settings: Settings, progress: Progress, measure: Measure
) -> DupmaeReport:
    """Train, or go on where an earlier sitting stopped, and write model, card and curves.

    Each phase has a folder and a checkpoint of its own; finished once, it is not begun again.
    Raises what `rag.train.loop.train` raises, `InvalidInput` for data that is not there, and
    `Conflict` while another process trains in the same folder.
    """
    with run_lock(request.out):
        return _train(request, settings, progress, measure)


def _train(
    request: TrainRequest[DupmaeRecipe], settings: Settings, progress: Progress, measure: Measure
) -> DupmaeReport:
    recipe, out = request.recipe, request.out
    use_threads(settings.n_threads)
    if request.restart:
        forget(out, PRETRAINING, *(stage.name for stage in recipe.stages))
    base = resolve(recipe.model, settings.cache, download=True, progress=progress)
    passages = read_passages(request.data / recipe.pretraining.file, recipe.pretraining.sources)
    network = DuplexNetwork(
        base, recipe, passages.texts, device=settings.device, seed=recipe.pretraining.loop.seed
    )
    progress.note(f"pre-training on {len(passages.texts)} passages")
    before = fingerprint_of(_shape(recipe), base.sha256, passages.sha256)
    phases = [
        train(
            PretrainingTask(network, passages.texts, recipe.pretraining),
            recipe.pretraining.loop,
            out / PRETRAINING,
            progress,
            fingerprint=before,
            device=settings.device,
        )
    ]
    sets, dev = read_sets(recipe, request.data, settings, progress)
    fingerprint = fingerprint_of(recipe, before, [one.pairs.sha256 for one in sets])
    for stage in recipe.stages:
        progress.note(f"stage {stage.name}")
        task = DuplexTask(network, sets, stage, dev, measure, out / CANDIDATE)
        phases.append(
            train(
                task,
                stage.loop,
                out / stage.name,
                progress,
                fingerprint=fingerprint,
                device=settings.device,
                pick=PICK if stage.measured else "",
            )
        )
        network.save(out / MODEL)
    _describe(request, base, passages, sets, dev, phases, progress)
    shutil.rmtree(out / CANDIDATE, ignore_errors=True)
    return _report(recipe, out / MODEL, phases)


def _describe(
    request: TrainRequest[DupmaeRecipe],
    base: ResolvedModel,
    passages: Passages,
    sets: Sequence[TrainingSet],
    dev: Sequence[DevSet],
    phases: Sequence[Outcome],
    progress: Progress,
) -> None:
    """Write card and curves beside the weights."""
    recipe, folder = request.recipe, request.out / MODEL
    card = model_card(_facts(request, base, passages, sets, dev), _overall(phases))
    write_durably(folder / "README.md", card.encode())
    for name in (PRETRAINING, *(stage.name for stage in recipe.stages)):
        curve = request.out / name / CURVE
        shutil.copyfile(curve, folder / f"curve-{name}.jsonl")
        draw_curves(curve, folder / f"curves-{name}.svg", progress)


def _overall(phases: Sequence[Outcome]) -> Outcome:
    """All phases as one run: `first` is what the first measured stage began with."""
    done = sum(phase.n_steps for phase in phases[:-1])
    best = phases[-1].best
    return Outcome(
        n_steps=done + phases[-1].n_steps,
        first=next(phase.first for phase in phases if phase.first),
        best=None if best is None else msgspec.structs.replace(best, step=done + best.step),
        train_s=sum(phase.train_s for phase in phases),
        measure_s=sum(phase.measure_s for phase in phases),
        sittings=max(phase.sittings for phase in phases),
    )


def _shape(recipe: DupmaeRecipe) -> list[Any]:
    """What pre-training depends on: with other stages after it, it need not be done again."""
    return [recipe.model, recipe.n_shared_layers, recipe.dimension, recipe.pretraining]


def _facts(
    request: TrainRequest[DupmaeRecipe],
    base: ResolvedModel,
    passages: Passages,
    sets: Sequence[TrainingSet],
    dev: Sequence[DevSet],
) -> RunFacts:
    recipe = request.recipe
    pretraining = recipe.pretraining
    return RunFacts(
        title=f"DupMAE: {request.recipe_name}",
        command=request.command,
        recipe_name=request.recipe_name,
        recipe=recipe,
        seed=recipe.loop.seed,
        base=base.name,
        base_sha256=base.sha256,
        base_licence=base.licence,
        machine=request.machine,
        data=[
            DataFacts(
                "pre-training",
                f"{pretraining.file} ({', '.join(pretraining.sources) or 'all sources'})",
                0,
                len(passages.texts),
                passages.sha256.partition(":")[0],
            ),
            *set_facts(sets),
        ],
        dev=[
            *(f"{source.name} ({source.folder}, {source.split})" for source in recipe.dev),
            *(f"{one.name} ({len(one.queries)} questions)" for one in dev),
        ],
        use="    rag index build NAME --input PATH --retrievers mine=FOLDER:kind=dupmae",
    )


def _report(recipe: DupmaeRecipe, folder: Path, phases: Sequence[Outcome]) -> DupmaeReport:
    names = (PRETRAINING, *(stage.name for stage in recipe.stages))
    return DupmaeReport(
        model=str(folder),
        phases=[
            PhaseReport(
                name=name,
                n_steps=phase.n_steps,
                kept_step=phase.n_steps if phase.best is None else phase.best.step,
                before=phase.first,
                after={} if phase.best is None else phase.best.measures,
                train_s=phase.train_s,
                measure_s=phase.measure_s,
            )
            for name, phase in zip(names, phases, strict=True)
        ],
    )

"""`rag train splade`: from a recipe to a folder that a SPLADE retriever opens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from indexes.errors import UsageError
from rag.config import Settings
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.train.adaptation import AdaptationTask
from rag.train.card import RunFacts, model_card
from rag.train.dev import PICK, DevSet, Measure
from rag.train.loop import train
from rag.train.run_lock import run_lock
from rag.train.splade_data import TrainingSet, read_sets
from rag.train.splade_recipe import AdaptationConfig, SpladeRecipe
from rag.train.splade_task import SpladeTask
from rag.train.training_run import (
    CANDIDATE,
    MODEL,
    TrainReport,
    TrainRequest,
    fingerprint_of,
    forget,
    report_of,
    set_facts,
    write_record,
)
from rag.train.vocabulary_network import VocabularyNetwork

ADAPTATION = "adaptation"


def train_splade(
    request: TrainRequest[SpladeRecipe], settings: Settings, progress: Progress, measure: Measure
) -> TrainReport:
    """Train, or go on where an earlier sitting stopped, and write model, card and curves.

    Raises what `rag.train.loop.train` raises, `InvalidInput` for data that is not there, and
    `Conflict` while another process trains in the same folder.
    """
    with run_lock(request.out):
        return _train(request, settings, progress, measure)


def _train(
    request: TrainRequest[SpladeRecipe], settings: Settings, progress: Progress, measure: Measure
) -> TrainReport:
    recipe, out = request.recipe, request.out
    use_threads(settings.n_threads)
    if request.restart:
        forget(out, ADAPTATION)
    base = resolve(recipe.model, settings.cache, download=True, progress=progress)
    sets, dev = read_sets(recipe, request.data, settings, progress)
    fingerprint = fingerprint_of(recipe, base.sha256, [one.pairs.sha256 for one in sets])
    start = base.folder
    if recipe.adaptation is not None:
        start = _adapt(recipe.adaptation, recipe, base, sets, out, settings, progress, fingerprint)
    network = VocabularyNetwork(
        start,
        recipe.backbone,
        max_tokens=recipe.loss.max_tokens,
        device=settings.device,
        low_rank=recipe.low_rank,
        seed=recipe.loop.seed,
    )
    task = SpladeTask(network, sets, recipe, dev, measure, out / CANDIDATE)
    outcome = train(
        task,
        recipe.loop,
        out,
        progress,
        fingerprint=fingerprint,
        device=settings.device,
        pick=PICK,
    )
    network.save(out / MODEL)
    card = model_card(_facts(request, base, sets, dev), outcome)
    write_record(out, card, progress)
    shutil.rmtree(out / CANDIDATE, ignore_errors=True)
    return report_of(out / MODEL, outcome)


def _adapt(
    config: AdaptationConfig,
    recipe: SpladeRecipe,
    base: ResolvedModel,
    sets: Sequence[TrainingSet],
    out: Path,
    settings: Settings,
    progress: Progress,
    fingerprint: str,
) -> Path:
    """The phase before, in a folder and with a checkpoint of its own: the adapted model's folder.

    It is another run: finished once, it is not begun again.
    """
    folder = out / ADAPTATION
    network = VocabularyNetwork(
        base.folder,
        recipe.backbone,
        max_tokens=config.max_tokens,
        device=settings.device,
        echo=False,
    )
    progress.note("adapting the head")
    train(
        AdaptationTask(network, sets, config.loop),
        config.loop,
        folder,
        progress,
        fingerprint=fingerprint,
        device=settings.device,
    )
    network.save(folder / MODEL)
    return folder / MODEL


def _facts(
    request: TrainRequest[SpladeRecipe],
    base: ResolvedModel,
    sets: Sequence[TrainingSet],
    dev: Sequence[DevSet],
) -> RunFacts:
    recipe = request.recipe
    echo = recipe.backbone == "decoder"
    return RunFacts(
        title=f"{'Echo-SPLADE' if echo else 'SPLADE'}: {request.recipe_name}",
        command=request.command,
        recipe_name=request.recipe_name,
        recipe=recipe,
        seed=recipe.loop.seed,
        base=base.name,
        base_sha256=base.sha256,
        base_licence=base.licence,
        machine=request.machine,
        data=set_facts(sets),
        dev=[
            *(f"{source.name} ({source.folder}, {source.split})" for source in recipe.dev),
            *(f"{one.name} ({len(one.queries)} questions)" for one in dev),
        ],
        use="    rag index build NAME --input PATH --retrievers mine=FOLDER:kind=splade",
    )


def check_backbone(recipe: SpladeRecipe, backbone: str | None) -> None:
    """Raise `UsageError` when a recipe is for another backbone than was asked for."""
    if backbone is not None and recipe.backbone != backbone:
        raise UsageError(f"the recipe is for backbone {recipe.backbone!r}, not {backbone!r}")

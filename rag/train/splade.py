"""`rag train splade`: from a recipe to a folder that a SPLADE retriever opens."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from indexes.errors import UsageError
from indexes.files import write_durably
from rag.config import Settings
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.train.adaptation import AdaptationTask
from rag.train.card import DataFacts, RunFacts, model_card
from rag.train.curve import CURVE, read_curve
from rag.train.dev import PICK, DevSet, Measure
from rag.train.loop import CHECKPOINT, Outcome, train
from rag.train.plot import plot_curves
from rag.train.run_lock import run_lock
from rag.train.splade_data import TrainingSet, read_sets
from rag.train.splade_recipe import AdaptationConfig, SpladeRecipe
from rag.train.splade_task import SpladeTask
from rag.train.vocabulary_network import VocabularyNetwork

MODEL, CANDIDATE, ADAPTATION = "model", "candidate", "adaptation"
PLOT = "curves.svg"


class TrainRequest(msgspec.Struct, frozen=True):
    """What to train. `command` and `machine` are for the card; `restart` forgets what `out` has."""

    recipe_name: str
    recipe: SpladeRecipe
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


def train_splade(
    request: TrainRequest, settings: Settings, progress: Progress, measure: Measure
) -> TrainReport:
    """Train, or go on where an earlier sitting stopped, and write model, card and curves.

    Raises what `rag.train.loop.train` raises, `InvalidInput` for data that is not there, and
    `Conflict` while another process trains in the same folder.
    """
    with run_lock(request.out):
        return _train(request, settings, progress, measure)


def _train(
    request: TrainRequest, settings: Settings, progress: Progress, measure: Measure
) -> TrainReport:
    recipe, out = request.recipe, request.out
    use_threads(settings.n_threads)
    if request.restart:
        _forget(out)
    base = resolve(recipe.model, settings.cache, download=True, progress=progress)
    sets, dev = read_sets(recipe, request.data, settings, progress)
    fingerprint = _fingerprint(recipe, base, sets)
    start = base.folder
    if recipe.adaptation is not None:
        start = _adapt(recipe.adaptation, recipe, base, sets, out, settings, progress)
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
    write_durably(out / MODEL / "README.md", card.encode())
    shutil.copyfile(out / CURVE, out / MODEL / CURVE)
    _plot(out, progress)
    shutil.rmtree(out / CANDIDATE, ignore_errors=True)
    return _report(out / MODEL, outcome)


def _adapt(
    config: AdaptationConfig,
    recipe: SpladeRecipe,
    base: ResolvedModel,
    sets: Sequence[TrainingSet],
    out: Path,
    settings: Settings,
    progress: Progress,
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
        fingerprint=_fingerprint(recipe, base, sets),
        device=settings.device,
    )
    network.save(folder / MODEL)
    return folder / MODEL


def _fingerprint(recipe: SpladeRecipe, base: ResolvedModel, sets: Sequence[TrainingSet]) -> str:
    facts = [msgspec.to_builtins(recipe), base.sha256, [one.pairs.sha256 for one in sets]]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _facts(
    request: TrainRequest,
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
        data=[
            DataFacts(
                one.pairs.source.name,
                f"{one.pairs.source.folder} ({one.pairs.source.split})",
                len(one.numbers),
                len(one.pairs.documents),
                one.pairs.sha256,
            )
            for one in sets
        ],
        dev=[
            *(f"{source.name} ({source.folder}, {source.split})" for source in recipe.dev),
            *(f"{one.name} ({len(one.queries)} questions)" for one in dev),
        ],
        use="    rag index build NAME --input PATH --retrievers mine=FOLDER:kind=splade",
    )


def _plot(out: Path, progress: Progress) -> None:
    try:
        drawn = plot_curves(read_curve(out / CURVE))
    except ImportError:
        progress.note("no plot of the curves: matplotlib is not installed (evident-rag[eval])")
        return
    write_durably(out / MODEL / PLOT, drawn.encode())


def _report(folder: Path, outcome: Outcome) -> TrainReport:
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


def _forget(out: Path) -> None:
    for name in (CHECKPOINT, ADAPTATION, CANDIDATE, MODEL):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / CURVE).unlink(missing_ok=True)


def check_backbone(recipe: SpladeRecipe, backbone: str | None) -> None:
    """Raise `UsageError` when a recipe is for another backbone than was asked for."""
    if backbone is not None and recipe.backbone != backbone:
        raise UsageError(f"the recipe is for backbone {recipe.backbone!r}, not {backbone!r}")

"""`rag train llmlingua2`: from a recipe to a folder that the compressor opens."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec

from indexes.files import write_durably
from rag.config import Settings
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.train.card import DataFacts, RunFacts, model_card
from rag.train.curve import CURVE, read_curve
from rag.train.llmlingua2.examples import Examples, read_examples
from rag.train.llmlingua2.network import PreserveNetwork
from rag.train.llmlingua2.recipe import LlmLingua2Recipe
from rag.train.llmlingua2.task import PICK, PreserveTask
from rag.train.loop import CHECKPOINT, Outcome, train
from rag.train.plot import plot_curves
from rag.train.run_lock import run_lock

MODEL, CANDIDATE, PLOT = "model", "candidate", "curves.svg"


class LlmLingua2Request(msgspec.Struct, frozen=True):
    """What to train. `command` and `machine` are for the card; `restart` forgets what `out` has."""

    recipe_name: str
    recipe: LlmLingua2Recipe
    data: Path
    out: Path
    command: str
    machine: str
    restart: bool = False


class LlmLingua2Report(msgspec.Struct, frozen=True):
    """What came of it: where the model lies, its scores before and after, what it cost."""

    model: str
    n_steps: int
    kept_step: int
    before: dict[str, float]
    after: dict[str, float]
    train_s: float
    measure_s: float
    sittings: int


def train_llmlingua2(
    request: LlmLingua2Request, settings: Settings, progress: Progress
) -> LlmLingua2Report:
    """Train, or go on where an earlier sitting stopped, and write model, card and curves.

    Raises what `rag.train.loop.train` raises, `InvalidInput` for data that is not there, and
    `Conflict` while another process trains in the same folder.
    """
    with run_lock(request.out):
        return _train(request, settings, progress)


def _train(request: LlmLingua2Request, settings: Settings, progress: Progress) -> LlmLingua2Report:
    recipe, out = request.recipe, request.out
    use_threads(settings.n_threads)
    if request.restart:
        for name in (CHECKPOINT, CANDIDATE, MODEL):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / CURVE).unlink(missing_ok=True)
    base = resolve(recipe.model, settings.cache, download=True, progress=progress)
    examples = read_examples(recipe, request.data, settings, progress)
    network = PreserveNetwork(
        base,
        base_name=recipe.model,
        max_tokens=recipe.examples.max_tokens,
        device=settings.device,
        low_rank=recipe.low_rank,
        seed=recipe.loop.seed,
    )
    outcome = train(
        PreserveTask(network, examples, recipe, out / CANDIDATE, settings),
        recipe.loop,
        out,
        progress,
        fingerprint=_fingerprint(recipe, base, examples),
        device=settings.device,
        pick=PICK if examples.held_out else "",
    )
    folder = out / MODEL
    network.save(folder)
    card = model_card(_facts(request, base, examples), outcome)
    write_durably(folder / "README.md", card.encode())
    shutil.copyfile(out / CURVE, folder / CURVE)
    try:
        write_durably(folder / PLOT, plot_curves(read_curve(out / CURVE)).encode())
    except ImportError:
        progress.note("no plot of the curves: matplotlib is not installed (evident-rag[eval])")
    shutil.rmtree(out / CANDIDATE, ignore_errors=True)
    return _report(folder, outcome)


def _fingerprint(recipe: LlmLingua2Recipe, base: ResolvedModel, examples: Examples) -> str:
    facts = [msgspec.to_builtins(recipe), base.sha256, [one.sha256 for one in examples.sets]]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _facts(request: LlmLingua2Request, base: ResolvedModel, examples: Examples) -> RunFacts:
    recipe = request.recipe
    return RunFacts(
        title=f"LLMLingua-2: {request.recipe_name}",
        command=request.command,
        recipe_name=request.recipe_name,
        recipe=recipe,
        seed=recipe.loop.seed,
        base=base.name,
        base_sha256=base.sha256,
        base_licence=base.licence,
        machine=request.machine,
        data=[
            DataFacts(one.name, one.origin, len(one.numbers), one.n_texts, one.sha256)
            for one in examples.sets
        ],
        dev=[f"{len(examples.held_out)} questions held out, each over three texts"],
        use='    rag compress --model FOLDER --query "..." < text',
        tags=("prompt-compression",),
    )


def _report(folder: Path, outcome: Outcome) -> LlmLingua2Report:
    best = outcome.best
    return LlmLingua2Report(
        model=str(folder),
        n_steps=outcome.n_steps,
        kept_step=outcome.n_steps if best is None else best.step,
        before=outcome.first,
        after={} if best is None else best.measures,
        train_s=outcome.train_s,
        measure_s=outcome.measure_s,
        sittings=outcome.sittings,
    )

"""`rag train llmlingua2`: from a recipe to a folder that the compressor opens."""

from __future__ import annotations

import shutil

from rag.config import Settings
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.train.card import DataFacts, RunFacts, model_card
from rag.train.llmlingua2.examples import Examples, read_examples
from rag.train.llmlingua2.network import PreserveNetwork
from rag.train.llmlingua2.recipe import LlmLingua2Recipe
from rag.train.llmlingua2.task import PICK, PreserveTask
from rag.train.loop import train
from rag.train.run_lock import run_lock
from rag.train.training_run import (
    CANDIDATE,
    MODEL,
    TrainReport,
    TrainRequest,
    fingerprint_of,
    forget,
    report_of,
    write_record,
)


def train_llmlingua2(
    request: TrainRequest[LlmLingua2Recipe], settings: Settings, progress: Progress
) -> TrainReport:
    """Train, or go on where an earlier sitting stopped, and write model, card and curves.

    Raises what `rag.train.loop.train` raises, `InvalidInput` for data that is not there, and
    `Conflict` while another process trains in the same folder.
    """
    with run_lock(request.out):
        return _train(request, settings, progress)


def _train(
    request: TrainRequest[LlmLingua2Recipe], settings: Settings, progress: Progress
) -> TrainReport:
    recipe, out = request.recipe, request.out
    use_threads(settings.n_threads)
    if request.restart:
        forget(out)
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
    write_record(out, card, progress)
    shutil.rmtree(out / CANDIDATE, ignore_errors=True)
    return report_of(folder, outcome)


def _fingerprint(recipe: LlmLingua2Recipe, base: ResolvedModel, examples: Examples) -> str:
    return fingerprint_of(recipe, base.sha256, [one.sha256 for one in examples.sets])


def _facts(
    request: TrainRequest[LlmLingua2Recipe], base: ResolvedModel, examples: Examples
) -> RunFacts:
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

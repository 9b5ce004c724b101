"""`rag train gear`: from a recipe to a folder that retrieval and localisation open."""

from __future__ import annotations

import shutil

import msgspec
import torch

from indexes.errors import Conflict
from rag.config import Settings
from rag.gear.network import GearNetwork, save_network
from rag.gear.reading import GearTokens
from rag.gear.shape import Aggregation, GearShape, read_shape
from rag.models.bert_layers import copy_tensors, load_encoder, read_tensors
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import use_threads
from rag.progress import Progress
from rag.train.card import DataFacts, RunFacts, model_card
from rag.train.gear.examples import Examples, read_examples
from rag.train.gear.recipe import GearRecipe
from rag.train.gear.task import GearTask, Measure
from rag.train.loop import Outcome, train
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

LOCATED: dict[Aggregation, str] = {
    "attention": "located by attention",
    "reader": "located by reader",
}
"""The measures of localisation, by aggregation."""

PICK = "picked by"
"""The measure that the best state is picked by: localisation and retrieval, half and half."""


class GearRequest(TrainRequest[GearRecipe], frozen=True):
    """`start` names a GeAR model over the recipe's base to go on from, "" to begin from the base.

    `finish` ends the run that `out` has where it stands.
    """

    start: str = ""
    finish: bool = False


def train_gear(
    request: GearRequest, settings: Settings, progress: Progress, measure: Measure
) -> TrainReport:
    """Train, or go on where an earlier sitting stopped, and write model, card and curves.

    Raises what `rag.train.loop.train` raises, `InvalidInput` for data that is not there, and
    `Conflict` while another process trains in the same folder.
    """
    with run_lock(request.out):
        return _train(request, settings, progress, measure)


def begin(recipe: GearRecipe, base: ResolvedModel, device: str) -> GearNetwork:
    """The network before training: it retrieves as the base does; what is new is drawn from a seed.

    Cross-attention begins with the projections of its layer's self-attention.
    """
    config = recipe.model
    shape = GearShape(
        base=recipe.base,
        base_sha256=base.sha256,
        n_shared=config.n_shared,
        memory_layer=config.memory_layer,
        n_decoder_layers=config.n_decoder_layers,
        decoder_inner=config.decoder_inner,
        locate_layers=config.locate_layers,
        max_tokens=config.max_tokens,
        max_question_tokens=config.max_question_tokens,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.loop.seed)
        network = GearNetwork(load_encoder(base.folder, device), shape)
        for block, layer in zip(network.fusion.blocks, network.encoder.layers(), strict=True):
            block.begin_as(layer)
    network.to(device)
    return network


def go_on_from(network: GearNetwork, model: ResolvedModel) -> None:
    """Take over what a GeAR folder has of the same name and shape; the rest stays as it begins.

    Raises `ModelError` for a folder of another kind, `Conflict` for another base.
    """
    base = read_shape(model.folder).base_sha256
    if base != network.shape.base_sha256:
        raise Conflict(f"{model.name} was trained over {base[:12]}, not over the recipe's base")
    found, wanted = read_tensors(model.folder), network.tensors()
    shared = {
        name: tensor
        for name, tensor in wanted.items()
        if name in found and found[name].shape == tensor.shape
    }
    copy_tensors(found, shared, model.name)


def _train(
    request: GearRequest, settings: Settings, progress: Progress, measure: Measure
) -> TrainReport:
    recipe, out = request.recipe, request.out
    use_threads(settings.n_threads)
    if request.restart:
        forget(out)
    base = resolve(recipe.base, settings.cache, download=True, progress=progress)
    examples = read_examples(recipe, request.data, settings, progress)
    network = begin(recipe, base, settings.device)
    start = resolve(request.start, settings.cache) if request.start else base
    if request.start:
        go_on_from(network, start)
    tokens = GearTokens(base.folder)
    outcome = train(
        GearTask(network, tokens, examples, recipe, measure, out / CANDIDATE),
        recipe.loop,
        out,
        progress,
        fingerprint=_fingerprint(recipe, base, start, examples),
        device=settings.device,
        pick=PICK if examples.located else "",
        finish=request.finish,
    )
    folder = out / MODEL
    network.shape = msgspec.structs.replace(network.shape, aggregation=_aggregation(outcome))
    save_network(network, folder)
    card = model_card(_facts(request, base, start, examples), outcome)
    write_record(out, card, progress)
    shutil.rmtree(out / CANDIDATE, ignore_errors=True)
    return report_of(folder, outcome)


def _aggregation(outcome: Outcome) -> Aggregation:
    """What pointed better at the sentences held out; the paper's way where nothing was measured."""
    measures = {} if outcome.best is None else outcome.best.measures
    found: dict[Aggregation, float] = {how: measures.get(LOCATED[how], 0.0) for how in LOCATED}
    return max(found, key=lambda how: found[how])


def _fingerprint(
    recipe: GearRecipe, base: ResolvedModel, start: ResolvedModel, examples: Examples
) -> str:
    digests = [base.sha256, start.sha256, [one.sha256 for one in examples.sets]]
    return fingerprint_of(recipe, *digests)


def _facts(
    request: GearRequest, base: ResolvedModel, start: ResolvedModel, examples: Examples
) -> RunFacts:
    recipe = request.recipe
    origins = {one.name: f"{one.folder} ({one.split})" for one in recipe.data}
    if recipe.synthesis is not None:
        origins["made"] = f"{recipe.synthesis.file} ({', '.join(recipe.synthesis.sources)})"
    return RunFacts(
        title=f"GeAR: {request.recipe_name}",
        command=request.command,
        recipe_name=request.recipe_name,
        recipe=recipe,
        seed=recipe.loop.seed,
        base=start.name,
        base_sha256=start.sha256,
        base_licence=base.licence,
        machine=request.machine,
        data=[
            DataFacts(one.name, origins[one.name], len(one.numbers), one.n_documents, one.sha256)
            for one in examples.sets
        ],
        dev=[
            f"{len(examples.located)} questions held out, each located in its own document",
            *(f"{one.name} ({len(one.queries)} questions) retrieved" for one in examples.retrieved),
        ],
        use="    rag index build NAME --input PATH --retrievers mine=FOLDER\n"
        "    rag locate --model FOLDER 'a question' < text",
        tags=("dense-retrieval", "sentence-localisation"),
    )

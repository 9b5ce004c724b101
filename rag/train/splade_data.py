"""A recipe's data: what is trained on, against what, and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from rag.config import Settings
from rag.progress import Progress
from rag.train.candidates import Candidates, MiningConfig, mine
from rag.train.dev import DevSet, held_out_set
from rag.train.false_negatives import FalseNegatives
from rag.train.order import MixedOrder
from rag.train.pairs import Pairs, PairSource, avoided, held_out, read_pairs
from rag.train.recipe import LoopConfig
from rag.train.splade_recipe import HeldOutConfig


class Example(msgspec.Struct, frozen=True):
    """A question of set `source` with its documents, the relevant one first.

    `rows` are the documents' and `teacher` the teacher's scores of them.
    """

    source: int
    number: int
    rows: list[int]
    teacher: list[float]


class TrainingSet(msgspec.Struct, frozen=True):
    """One set; `numbers` are the questions that may be trained on."""

    pairs: Pairs
    candidates: Candidates
    numbers: list[int]
    false_negatives: FalseNegatives


class DataRecipe(Protocol):
    """What a recipe says of its data; the loop's seed is the one of what is drawn in mining."""

    @property
    def data(self) -> Sequence[PairSource]:
        """The sets."""

    @property
    def mining(self) -> MiningConfig:
        """How negatives are found."""

    @property
    def held_out(self) -> HeldOutConfig:
        """What is kept for measuring."""

    @property
    def avoid(self) -> Sequence[str]:
        """Judgements whose questions are left out."""

    @property
    def loop(self) -> LoopConfig:
        """Seed and batch size."""


class _Loss(Protocol):
    @property
    def n_negatives(self) -> int:
        """Negatives of each question."""


class BatchRecipe(Protocol):
    """What a recipe, or a stage of one, says of its batches."""

    @property
    def loop(self) -> LoopConfig:
        """Seed and batch size."""

    @property
    def loss(self) -> _Loss:
        """What it needs of each question."""


def read_sets(
    recipe: DataRecipe, data: Path, settings: Settings, progress: Progress
) -> tuple[list[TrainingSet], list[DevSet]]:
    """Read and mine all sets; hold out, and leave out what is measured on later."""
    sets: list[TrainingSet] = []
    dev: list[DevSet] = []
    seed = recipe.loop.seed
    for source in recipe.data:
        pairs = read_pairs(data, source)
        found = mine(pairs, recipe.mining, seed, settings.cache / "training", settings, progress)
        train, kept = held_out(pairs, recipe.held_out.share)
        never = avoided(pairs, data, recipe.avoid)
        usable = _usable(pairs, found)
        numbers = [number for number in train if number in usable and number not in never]
        progress.note(f"{source.name}: {len(numbers)} questions, {len(pairs.documents)} documents")
        sets.append(TrainingSet(pairs, found, numbers, FalseNegatives(pairs)))
        kept = kept[: recipe.held_out.n_queries]
        if kept:
            dev.append(held_out_set(pairs, found, kept))
    return sets, dev


class Examples:
    """The examples of each step: a pure function of the seed and the step."""

    def __init__(self, sets: Sequence[TrainingSet], recipe: BatchRecipe) -> None:
        self._sets = sets
        self._seed, self._n_negatives = recipe.loop.seed, recipe.loss.n_negatives
        sizes = [len(one.numbers) for one in sets]
        weights = [one.pairs.source.weight for one in sets]
        self._order = MixedOrder(sizes, weights, recipe.loop.batch_size, self._seed)

    def __call__(self, step: int) -> list[Example]:
        """A batch, all of one set; for each question one relevant document and some mined ones."""
        source, places = self._order.batch(step)
        chosen = self._sets[source]
        generator = np.random.default_rng([self._seed, step, source])
        examples = []
        for place in places:
            number = chosen.numbers[place]
            picked = self._pick(chosen.candidates, number, generator)
            rows = chosen.candidates.rows[number, picked].tolist()
            teacher = chosen.candidates.scores[number, picked].tolist()
            examples.append(Example(source, number, rows, teacher))
        return examples

    def _pick(self, found: Candidates, number: int, generator: np.random.Generator) -> list[int]:
        """Columns of the candidates: a relevant one, then negatives, repeated if there are few."""
        (there,) = np.nonzero(found.rows[number] >= 0)
        positives = there[there < found.n_positives]
        negatives = there[there >= found.n_positives]
        again = len(negatives) < self._n_negatives
        drawn = generator.choice(negatives, self._n_negatives, replace=again)
        return [int(generator.choice(positives)), *drawn.tolist()]


def _usable(pairs: Pairs, found: Candidates) -> set[int]:
    """Questions that say something and have at least one negative."""
    has = (found.rows[:, found.n_positives :] >= 0).any(axis=1)
    return {number for number in np.flatnonzero(has).tolist() if pairs.queries[number].text.strip()}

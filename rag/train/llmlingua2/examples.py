"""A recipe's examples: which texts, with which question, and what of them is to be preserved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from rag.compress.words import Span
from rag.config import Settings
from rag.progress import Progress
from rag.train.candidates import Candidates, MiningConfig, mine
from rag.train.llmlingua2.distilled import Distilled, read_distilled
from rag.train.llmlingua2.example import Example
from rag.train.llmlingua2.labels import (
    answer_places,
    answering_sentences,
    supporting_turns,
    telling_words,
)
from rag.train.llmlingua2.meetings import Meetings, read_meetings
from rag.train.llmlingua2.recipe import ExampleConfig, LlmLingua2Recipe
from rag.train.order import MixedOrder
from rag.train.pairs import Pairs, avoided, held_out, read_pairs


class HeldOut(msgspec.Struct, frozen=True):
    """A question not trained on, its texts, and where answers stand in them by number."""

    question: str
    texts: list[str]
    answers: list[tuple[int, Span]]


class ExampleSet(Protocol):
    """One set of a recipe; `numbers` are the questions that may be trained on."""

    name: str
    origin: str
    weight: float
    numbers: list[int]
    n_texts: int
    sha256: str

    def examples(self, number: int, generator: np.random.Generator) -> list[Example]:
        """A question's examples, the answering text first."""


class QuestionSet:
    """Questions with answers, their paragraphs, and what BM25 takes for an answer."""

    def __init__(
        self, pairs: Pairs, found: Candidates, config: ExampleConfig, numbers: Sequence[int]
    ) -> None:
        self.name, self.weight = pairs.source.name, pairs.source.weight
        self.origin, self.n_texts = pairs.source.folder, len(pairs.documents)
        self.sha256 = pairs.sha256
        self.pairs, self._found, self._config = pairs, found, config
        self._asked: dict[int, list[int]] = {}
        for number in numbers:
            for row in pairs.queries[number].positives:
                self._asked.setdefault(row, []).append(number)
        self.numbers = [number for number in numbers if self._answering(number)]

    def examples(self, number: int, generator: np.random.Generator) -> list[Example]:
        """The paragraph that answers, sometimes without its question; then some that do not."""
        query = self.pairs.queries[number]
        row = int(generator.choice(self._answering(number)))
        text = self.pairs.documents[row].text
        if generator.random() < self._config.question_free:
            about = [self.pairs.queries[other] for other in self._asked[row]]
            answers = [answer for one in about for answer in one.answers]
            told = telling_words(text, [one.text for one in about], answers)
            first = Example("", text, told)
        else:
            first = Example(query.text, text, answering_sentences(text, query.text, query.answers))
        others = self.negatives(number)
        drawn = generator.choice(others, min(len(others), self._config.n_negatives), replace=False)
        return [first, *(Example(query.text, self.pairs.documents[n].text, []) for n in drawn)]

    def negatives(self, number: int) -> list[int]:
        """Rows that do not answer the question, best first."""
        rows: list[int] = self._found.rows[number, self._found.n_positives :].tolist()
        return [row for row in rows if row >= 0]

    def held_out(self, number: int, n_texts: int) -> HeldOut | None:
        """The question over its paragraph and the best of those that do not answer."""
        query = self.pairs.queries[number]
        answering = self._answering(number)
        if not answering:
            return None
        rows = [answering[0], *self.negatives(number)][:n_texts]
        text = self.pairs.documents[rows[0]].text
        places = [(0, place) for place in answer_places(text, query.answers)]
        return HeldOut(query.text, [self.pairs.documents[row].text for row in rows], places)

    def _answering(self, number: int) -> list[int]:
        """The relevant paragraphs that hold an answer word for word."""
        query = self.pairs.queries[number]
        return [
            row
            for row in query.positives
            if answer_places(self.pairs.documents[row].text, query.answers)
        ]


class MeetingSet:
    """Questions about meetings."""

    def __init__(self, meetings: Meetings, config: ExampleConfig) -> None:
        self.name, self.weight = meetings.source.name, meetings.source.weight
        self.origin, self.n_texts = meetings.source.file, len(meetings.stretches)
        self.sha256 = meetings.sha256
        self._meetings, self._config = meetings, config
        self.numbers = list(range(len(meetings.questions)))

    def examples(self, number: int, generator: np.random.Generator) -> list[Example]:
        """A stretch that the question is about, then some of the same meeting that it is not."""
        question = self._meetings.questions[number]
        inside = self._meetings.stretches[int(generator.choice(question.inside))]
        told = supporting_turns(inside.text, inside.turns, question.summary)
        n_drawn = min(len(question.outside), self._config.n_negatives)
        drawn = generator.choice(question.outside, n_drawn, replace=False)
        others = [self._meetings.stretches[int(n)].text for n in drawn]
        return [
            Example(question.text, inside.text, told),
            *(Example(question.text, text, []) for text in others),
        ]


class DistilledSet:
    """A teacher's compressions, each text an example without a question."""

    def __init__(self, distilled: Distilled) -> None:
        self.name, self.weight = distilled.source.name, distilled.source.weight
        self.origin, self.n_texts = distilled.source.file, len(distilled.examples)
        self.sha256 = distilled.sha256
        self._examples = distilled.examples
        self.numbers = list(range(len(distilled.examples)))

    def examples(self, number: int, generator: np.random.Generator) -> list[Example]:  # noqa: ARG002
        """One example: its text has no other."""
        return [self._examples[number]]


class Examples(NamedTuple):
    """All sets of a recipe and what is held out of them."""

    sets: list[ExampleSet]
    held_out: list[HeldOut]

    def order(self, recipe: LlmLingua2Recipe) -> MixedOrder:
        """Which questions make which batch."""
        sizes = [len(one.numbers) for one in self.sets]
        weights = [one.weight for one in self.sets]
        return MixedOrder(sizes, weights, recipe.loop.batch_size, recipe.loop.seed)


HELD_OUT_TEXTS = 3
"""Texts that a question held out is measured over: as many as an answer is shown."""


def read_examples(
    recipe: LlmLingua2Recipe, data: Path, settings: Settings, progress: Progress
) -> Examples:
    """Read all sets; hold out, mine by BM25, and leave out what is measured on later."""
    config = recipe.examples
    mining = MiningConfig("bm25", (1.0,), n_top=config.depth, n_random=0, depth=100)
    sets: list[ExampleSet] = []
    held: list[HeldOut] = []
    for source in recipe.data:
        pairs = read_pairs(data, source)
        work = settings.cache / "training"
        found = mine(pairs, mining, recipe.loop.seed, work, settings, progress)
        train, kept = held_out(pairs, recipe.held_out.share)
        never = avoided(pairs, data, recipe.avoid)
        usable = [number for number in train if number not in never]
        one = QuestionSet(pairs, found, config, [n for n in usable if _has_others(found, n)])
        progress.note(f"{source.name}: {len(one.numbers)} questions")
        sets.append(one)
        measured = [one.held_out(number, HELD_OUT_TEXTS) for number in kept if number not in never]
        held += [found_one for found_one in measured if found_one][: recipe.held_out.n_queries]
    for meeting_source in recipe.meetings:
        meetings = MeetingSet(read_meetings(data, meeting_source), config)
        progress.note(f"{meeting_source.name}: {len(meetings.numbers)} questions")
        sets.append(meetings)
    for distilled_source in recipe.distilled:
        distilled = read_distilled(data, distilled_source)
        progress.note(f"{distilled.source.name}: {len(distilled.examples)} pairs kept")
        sets.append(DistilledSet(distilled))
    return Examples(sets, held)


def _has_others(found: Candidates, number: int) -> bool:
    return bool((found.rows[number, found.n_positives :] >= 0).any())

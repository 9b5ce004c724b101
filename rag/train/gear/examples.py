"""A gear recipe's examples: a question, the document that answers it, and in which sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from indexes.sentences import sentence_spans
from rag.compress.words import Span
from rag.config import Settings
from rag.progress import Progress
from rag.train.candidates import Candidates, MiningConfig, mine
from rag.train.dev import DevSet, held_out_set
from rag.train.false_negatives import FalseNegatives
from rag.train.gear.recipe import GearRecipe
from rag.train.gear.synthesis import MadeQuestion, make_questions
from rag.train.llmlingua2.labels import answer_places, answering_sentences
from rag.train.order import MixedOrder
from rag.train.pairs import Pairs, avoided, held_out, judged_texts, read_pairs

MINING = MiningConfig("bm25", (1.0,), n_top=8, n_random=0, depth=100)
"""Negatives are the best by BM25 that neither are judged relevant nor hold an answer."""


class Example(msgspec.Struct, frozen=True):
    """`sentences` are the numbers of those that answer; `answer` is "" where it is unknown.

    `key` tells documents apart within the run, and `negatives` are other documents' (title, text).
    """

    source: int
    number: int
    question: str
    title: str
    text: str
    sentences: list[int]
    answer: str
    key: int
    negatives: list[tuple[str, str]]


class Located(msgspec.Struct, frozen=True):
    """A question held out, its document, and the numbers of the sentences that answer it."""

    question: str
    title: str
    text: str
    sentences: list[int]


class QuestionSet:
    """Questions with answers, and their documents."""

    def __init__(self, pairs: Pairs, found: Candidates, numbers: Sequence[int]) -> None:
        self.name, self.weight, self.sha256 = pairs.source.name, pairs.source.weight, pairs.sha256
        self.pairs, self._found = pairs, found
        self.n_documents = len(pairs.documents)
        self._false_negatives = FalseNegatives(pairs)
        self.numbers = [number for number in numbers if self._answering(number)]

    def example(
        self, source: int, number: int, n_negatives: int, generator: np.random.Generator
    ) -> Example:
        """A question with a document that holds an answer, and documents that do not."""
        query = self.pairs.queries[number]
        row = int(generator.choice(self._answering(number)))
        document = self.pairs.documents[row]
        others = [int(n) for n in self._found.rows[number, self._found.n_positives :] if n >= 0]
        drawn = generator.choice(others, min(n_negatives, len(others)), replace=False)
        return Example(
            source,
            number,
            query.text,
            document.title,
            document.text,
            answering(document.text, query.text, query.answers),
            str(query.answers[0]),
            row,
            [(self.pairs.documents[n].title, self.pairs.documents[n].text) for n in drawn],
        )

    def located(self, number: int) -> Located | None:
        """The question over its first document with an answer, if there are several sentences."""
        rows = self._answering(number)
        if not rows:
            return None
        query, document = self.pairs.queries[number], self.pairs.documents[rows[0]]
        gold = answering(document.text, query.text, query.answers)
        if len(sentence_spans(document.text)) < 2:
            return None
        return Located(query.text, document.title, document.text, gold)

    def answers(self, number: int, rows: Sequence[int]) -> list[bool]:
        """Of documents by `Example.key`, whether each answers the question."""
        return self._false_negatives.among(number, rows)

    def _answering(self, number: int) -> list[int]:
        query = self.pairs.queries[number]
        return [
            row
            for row in query.positives
            if answer_places(self.pairs.documents[row].text, query.answers)
        ]


class MadeSet:
    """Questions made from sentences; a document answers another's question as far as is known."""

    def __init__(self, made: Sequence[MadeQuestion], weight: float, sha256: str) -> None:
        self.name, self.weight, self.sha256 = "made", weight, sha256
        self._made, self.n_documents = made, len(made)
        self.numbers = list(range(len(made)))

    def example(
        self,
        source: int,
        number: int,
        n_negatives: int,  # noqa: ARG002
        generator: np.random.Generator,  # noqa: ARG002
    ) -> Example:
        """A question and its passage; nothing was mined for it."""
        one = self._made[number]
        return Example(
            source, number, one.question, "", one.text, [one.sentence], one.answer, number, []
        )

    def answers(self, number: int, rows: Sequence[int]) -> list[bool]:
        """Only its own passage answers a question."""
        return [row == number for row in rows]


class Examples(NamedTuple):
    """All sets of a recipe and what is held out of them."""

    sets: list[QuestionSet | MadeSet]
    located: list[Located]
    retrieved: list[DevSet]

    def order(self, recipe: GearRecipe) -> MixedOrder:
        """Which questions make which batch."""
        sizes = [len(one.numbers) for one in self.sets]
        weights = [one.weight for one in self.sets]
        return MixedOrder(sizes, weights, recipe.loop.batch_size, recipe.loop.seed)


def read_examples(
    recipe: GearRecipe, data: Path, settings: Settings, progress: Progress
) -> Examples:
    """Read all sets; hold out, mine, make questions, and leave out what is measured on later."""
    sets: list[QuestionSet | MadeSet] = []
    located: list[Located] = []
    retrieved: list[DevSet] = []
    seed, limit = recipe.loop.seed, recipe.held_out.n_queries
    for source in recipe.data:
        pairs = read_pairs(data, source)
        found = mine(pairs, MINING, seed, settings.cache / "training", settings, progress)
        train, kept = held_out(pairs, recipe.held_out.share)
        never = avoided(pairs, data, recipe.avoid)
        one = QuestionSet(pairs, found, [number for number in train if number not in never])
        progress.note(f"{source.name}: {len(one.numbers)} questions")
        sets.append(one)
        kept = [number for number in kept if number not in never]
        measured = [one.located(number) for number in kept]
        located += [found_one for found_one in measured if found_one][:limit]
        few = Candidates(
            found.rows[:, : found.n_positives + recipe.held_out.depth],
            found.scores[:, : found.n_positives + recipe.held_out.depth],
            found.n_positives,
        )
        if kept:
            retrieved.append(held_out_set(pairs, few, kept[:limit]))
    if recipe.synthesis is not None:
        never_texts = frozenset(judged_texts(data, recipe.avoid))
        made, digest = make_questions(data, recipe.synthesis, never_texts, seed)
        progress.note(f"made: {len(made)} questions")
        sets.append(MadeSet(made, recipe.synthesis.weight, digest))
    return Examples(sets, located, retrieved)


def answering(text: str, question: str, answers: Sequence[str]) -> list[int]:
    """Numbers of the sentences that hold an answer and share the most with the question."""
    spans = [Span(*place) for place in sentence_spans(text)]
    best = set(answering_sentences(text, question, answers))
    return [number for number, span in enumerate(spans) if span in best]

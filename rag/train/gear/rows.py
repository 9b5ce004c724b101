"""Examples as numbers: token ids, sentences of tokens, and what is to be generated."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rag.gear.reading import NOBODY, GearTokens, Window
from rag.train.gear.examples import Example
from rag.train.gear.recipe import GearLossConfig, GearModelConfig


class Row(NamedTuple):
    """An example as the model is fed it.

    `owners` number the window's sentences from 0 on; `gold` are those that answer. `targets` are
    what the decoder shall write, each with its mark in front and the last token at its end.
    `negatives` are token ids of documents that do not answer.
    """

    source: int
    number: int
    key: int
    question: list[int]
    document: list[int]
    owners: list[int]
    gold: list[int]
    targets: list[list[int]]
    negatives: list[list[int]]


class RowMaker(NamedTuple):
    """How examples are tokenised."""

    tokens: GearTokens
    model: GearModelConfig
    loss: GearLossConfig

    def row(self, example: Example, generator: np.random.Generator) -> Row:
        """The window of the document that holds the answer; of others the first."""
        read = self.tokens.read(example.title, example.text, self.loss.max_tokens)
        window = _telling(read.windows, example.sentences)
        here = [owner for owner in dict.fromkeys(window.owners) if owner != NOBODY]
        numbers = {owner: place for place, owner in enumerate(here)} | {NOBODY: NOBODY}
        asked = self.tokens.question(example.question, self.model.max_question_tokens)
        return Row(
            example.source,
            example.number,
            example.key,
            asked.ids,
            window.ids,
            [numbers[owner] for owner in window.owners],
            [numbers[sentence] for sentence in example.sentences if sentence in numbers],
            self._targets(example, read.sentences, generator),
            [
                self.tokens.read(*other, self.loss.max_tokens).windows[0].ids
                for other in example.negatives
            ],
        )

    def _targets(
        self, example: Example, sentences: list[tuple[int, int]], generator: np.random.Generator
    ) -> list[list[int]]:
        """The answer (QAR), and for some questions the sentence that holds it (RIR)."""
        found = []
        if example.answer:
            found.append([self.tokens.answer_mark, *self.tokens.ids(example.answer)])
        if generator.random() < self.loss.sentences:
            start, end = sentences[example.sentences[0]]
            words = self.tokens.ids(example.text[start:end])
            found.append([self.tokens.sentence_mark, *words])
        return [[*ids[: self.loss.max_words], self.tokens.last] for ids in found]


def _telling(windows: list[Window], gold: list[int]) -> Window:
    """The window with the most tokens of answering sentences; the earliest of those."""
    counts = [sum(owner in gold for owner in window.owners) for window in windows]
    return windows[counts.index(max(counts))]

"""The task: cross entropy of every token's class, and answers retained when texts are shortened.

What the reference's training code gets wrong is not repeated: labels stand on the very tokens that
the model will read, none is shifted, and special tokens, question and padding have no part in the
loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from rag.compress.selection import touched
from rag.compress.token_classifier import QUESTION_SHARE, TokenClassifier
from rag.compress.words import Span
from rag.config import Settings
from rag.models.resolver import resolve
from rag.retrievers.batching import token_batches
from rag.train.llmlingua2.example import Example
from rag.train.llmlingua2.examples import Examples, HeldOut
from rag.train.llmlingua2.network import IGNORED, PreserveNetwork
from rag.train.llmlingua2.recipe import LlmLingua2Recipe

CHUNK_TOKENS = 4096
"""Tokens, padding included, that go through the layers at a time."""

RATES = (0.5, 1 / 3, 0.2)
PICK = "retained"


class Row(NamedTuple):
    """One example as the model is fed it: ids, segments and labels, each `[n]`."""

    ids: list[int]
    types: list[int]
    labels: list[int]


class PreserveTask:
    """Owns the network. The model as it would be delivered is written to `folder` and measured."""

    def __init__(
        self,
        network: PreserveNetwork,
        examples: Examples,
        recipe: LlmLingua2Recipe,
        folder: Path,
        settings: Settings,
    ) -> None:
        self.network = network
        self._examples, self._recipe = examples, recipe
        self._order = examples.order(recipe)
        self._folder, self._settings = folder, settings

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What the optimizer changes."""
        return self.network.parameters()

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """What is saved: the parameters are all."""
        return self.network.parameters()

    def examples(self, step: int) -> Sequence[Row]:
        """A batch of one set: every question's texts, tokenised and labelled."""
        source, places = self._order.batch(step)
        chosen = self._examples.sets[source]
        generator = np.random.default_rng([self._recipe.loop.seed, step, source])
        found = [chosen.examples(chosen.numbers[place], generator) for place in places]
        return [self._row(one, generator) for each in found for one in each]

    def losses(self, examples: Sequence[Row], step: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Mean cross entropy over the texts' tokens; the share of them that is to be preserved."""
        self.network.module.train()
        total = torch.zeros(())
        n_labels = sum(label != IGNORED for row in examples for label in row.labels)
        n_kept = sum(label == 1 for row in examples for label in row.labels)
        for places in token_batches([len(row.ids) for row in examples], CHUNK_TOKENS):
            rows = [examples[place] for place in places]
            logits = self.network.logits([row.ids for row in rows], [row.types for row in rows])
            labels = torch.full(logits.shape[:2], IGNORED, dtype=torch.long)
            for number, row in enumerate(rows):
                labels[number, : len(row.labels)] = torch.tensor(row.labels)
            with torch.autocast(logits.device.type, enabled=False):
                loss = functional.cross_entropy(
                    logits.float().flatten(0, 1),
                    labels.flatten().to(logits.device),
                    ignore_index=IGNORED,
                    reduction="sum",
                )
            total = total.to(loss.device) + loss
        n_labels = max(1, n_labels)
        return {"loss": total / n_labels, "preserved": torch.tensor(n_kept / n_labels)}

    def after_update(self, step: int) -> None:
        """Nothing goes on between updates."""

    def measure(self) -> dict[str, float]:
        """Of questions held out, the share whose answer is whole when so much is kept."""
        self.network.save(self._folder)
        classifier = TokenClassifier(
            resolve(str(self._folder), self._settings.cache),
            cache=self._settings.cache,
            device=self._settings.device,
            batch_tokens=self._settings.encode_batch_tokens,
        )
        held_out = self._examples.held_out
        rows = [retained(classifier, one) for one in held_out]
        means = np.mean(rows, axis=0).tolist() if rows else [0.0] * len(RATES)
        found = {
            f"{PICK}@{rate:.2f}": round(mean, 4) for rate, mean in zip(RATES, means, strict=True)
        }
        return {PICK: round(float(np.mean(means)), 5), **found}

    def _row(self, example: Example, generator: np.random.Generator) -> Row:
        """The example cut to size, about what is to be preserved where there is more."""
        frame = self.network.tokens.pair_frame
        limit = int(QUESTION_SHARE * self.network.max_tokens)
        question = self.network.tokens.ids(example.question)[:limit]
        lead = [*frame.before, *question, *frame.between]
        (read,) = self.network.tokens.read([example.text])
        room = self.network.max_tokens - len(lead) - len(frame.after)
        labels = np.zeros(len(read.ids), dtype=np.int64)
        places = zip(read.starts.tolist(), read.ends.tolist(), strict=True)
        tokens = [Span(*place) for place in places]
        for span in example.preserve:
            labels[list(touched(tokens, span))] = 1
        first = _window(labels, room, generator)
        body = slice(first, first + room)
        n_body = len(labels[body])
        return Row(
            ids=[*lead, *read.ids[body].tolist(), *frame.after],
            types=[frame.question_type] * len(lead)
            + [frame.text_type] * (n_body + len(frame.after)),
            labels=[IGNORED] * len(lead) + labels[body].tolist() + [IGNORED] * len(frame.after),
        )


def _window(labels: NDArray[np.int64], room: int, generator: np.random.Generator) -> int:
    """Where a window of `room` tokens begins that holds the first token to be preserved."""
    last = len(labels) - room
    if last <= 0:
        return 0
    kept = np.flatnonzero(labels)
    if not len(kept):
        return int(generator.integers(last + 1))
    low = max(0, int(kept[0]) - room + 1 + room // 4)
    return int(generator.integers(min(low, last), min(int(kept[0]), last) + 1))


def retained(classifier: TokenClassifier, one: HeldOut) -> list[float]:
    """For each of `RATES` whether an answer stands whole in the best so many words: 1 or 0."""
    scored = classifier.score(one.texts, one.question)
    flat = np.array([score for text in scored for score in text.scores])
    order = np.argsort(-flat, kind="stable")
    firsts = np.cumsum([0, *(len(text.words) for text in scored)])
    found = []
    for rate in RATES:
        kept = set(order[: int(rate * len(flat))].tolist())
        whole = [
            all(firsts[text] + number in kept for number in touched(scored[text].words, place))
            for text, place in one.answers
        ]
        found.append(float(any(whole)))
    return found

"""The GeAR task: the network, its examples, its losses, and what is measured on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rag.gear.fusion import Memory
from rag.gear.network import GearNetwork, pooled, save_network
from rag.gear.reader import Reading, sentence_means, sentence_shares, token_attention
from rag.gear.reading import NOBODY, GearTokens
from rag.models.bert_layers import padded
from rag.retrievers.batching import token_batches
from rag.train.gear.examples import Examples
from rag.train.gear.losses import IGNORED, contrastive, located, written
from rag.train.gear.momentum import MomentumQueue
from rag.train.gear.recipe import GearRecipe
from rag.train.gear.rows import Row, RowMaker

CHUNK_TOKENS = 4096
"""Tokens of documents, padding included, that go through the layers at a time."""

NEAR = 64
"""Only the likest documents of the queue are searched for answers: others hardly count."""

Measure = Callable[[Path, Examples], dict[str, float]]
"""Scores of the model in a folder on what is held out."""


class _Part(NamedTuple):
    """Some rows of a batch after the forward pass: vectors `[n, d]`, sums of the other losses."""

    places: list[int]
    documents: torch.Tensor
    keys: torch.Tensor
    losses: dict[str, torch.Tensor]


class GearTask:
    """Owns the network, the momentum encoder and its queue. `folder` is rewritten each time."""

    def __init__(
        self,
        network: GearNetwork,
        tokens: GearTokens,
        examples: Examples,
        recipe: GearRecipe,
        measure: Measure,
        folder: Path,
    ) -> None:
        self.network, self.tokens = network, tokens
        self._examples, self._recipe, self._config = examples, recipe, recipe.loss
        self._order = examples.order(recipe)
        self._rows = RowMaker(tokens, recipe.model, recipe.loss)
        self._measure, self._folder = measure, folder
        self._device = network.device
        self._queue = MomentumQueue(
            network.upper,
            network.base.upper(network.shape.n_shared),
            recipe.loss.queue,
            recipe.loss.momentum,
        )
        self._pushed: list[tuple[torch.Tensor, list[tuple[int, int]]]] = []

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What the optimizer changes: all but the base."""
        return self.network.tensors()

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The parameters, the momentum encoder and its queue."""
        return {**self.network.tensors(), **self._queue.tensors()}

    def examples(self, step: int) -> Sequence[Row]:
        """A batch of one set, tokenised."""
        source, places = self._order.batch(step)
        chosen = self._examples.sets[source]
        generator = np.random.default_rng([self._recipe.loop.seed, step, source])
        n_negatives = self._config.n_negatives
        return [
            self._rows.row(
                chosen.example(source, chosen.numbers[place], n_negatives, generator), generator
            )
            for place in places
        ]

    def losses(self, examples: Sequence[Row], step: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """The recipe's loss and its parts, each a mean over the questions or words."""
        lengths = [len(row.document) for row in examples]
        parts = [
            self._part(places, [examples[place] for place in places])
            for places in token_batches(lengths, CHUNK_TOKENS)
        ]
        order = torch.tensor([place for part in parts for place in part.places]).argsort()
        documents = torch.cat([part.documents for part in parts])[order]
        keys = torch.cat([part.keys for part in parts])[order]
        found = {"contrastive": self._contrastive(examples, documents)}
        n_words = sum(len(ids) - 1 for row in examples for ids in row.targets)
        n_located = sum(bool(row.gold) for row in examples)
        counts = {"words": n_words, "attention": n_located, "reader": n_located}
        for name, count in counts.items():
            found[name] = sum(part.losses[name] for part in parts) / max(1, count)
        config = self._config
        found["loss"] = (
            config.contrastive * found["contrastive"]
            + config.alpha * found["words"]
            + config.attention * found["attention"]
            + config.reader * found["reader"]
        )
        self._pushed.append((keys, [(row.source, row.key) for row in examples]))
        return found

    def after_update(self, step: int) -> None:  # noqa: ARG002
        """The momentum encoder follows; the batch's documents go into its queue."""
        for vectors, origins in self._pushed:
            self._queue.push(vectors, origins)
        self._pushed.clear()
        self._queue.follow()

    def measure(self) -> dict[str, float]:
        """Write the model as it would be delivered, and have that measured."""
        save_network(self.network, self._folder)
        return self._measure(self._folder, self._examples)

    def _part(self, places: list[int], rows: Sequence[Row]) -> _Part:
        """Some rows forward: bi-encoder, fusion, decoder."""
        ids, mask = padded([row.document for row in rows], self.tokens.pad, self._device)
        with torch.no_grad():
            shared = self.network.encoder.shared(ids, mask)
            moved = self._queue.copied.run(shared, mask) if self._config.queue else shared
            keys = pooled(moved, mask)
        memory = self.network.memory(shared, mask)
        asked, asked_mask = padded([row.question for row in rows], self.tokens.pad, self._device)
        fused = self.network.fuse(asked, asked_mask, memory)
        with torch.autocast(self._device.type, enabled=False):
            own, every = _question_masks(rows, fused.states)
            words = self.network.base.words
            read = Reading(
                fused.attention,
                own,
                every,
                fused.states,
                words(asked),
                memory.states,
                words(ids),
                self._owners(rows, ids),
            )
            losses = self._looking(rows, read)
        losses["words"] = self._writing(rows, Memory(fused.states, asked_mask))
        return _Part(places, self._vectors(memory), keys, losses)

    def _vectors(self, memory: Memory) -> torch.Tensor:
        """The bi-encoder's vectors of documents; nothing, where they are not trained."""
        if not self._config.contrastive:
            return memory.states[:, 0, :0]
        upper, first = self.network.upper, self.network.memory_layer
        return pooled(upper.run(memory.states, memory.mask, first), memory.mask)

    def _owners(self, rows: Sequence[Row], ids: torch.Tensor) -> torch.Tensor:
        """Which sentence each token of the documents is of."""
        owners = torch.full(ids.shape, NOBODY)
        for number, row in enumerate(rows):
            owners[number, : len(row.owners)] = torch.tensor(row.owners)
        return owners.to(ids.device)

    def _looking(self, rows: Sequence[Row], read: Reading) -> dict[str, torch.Tensor]:
        """Sums over the rows of −log the gold sentences' share, of attention and of the reader."""
        gold = [row.gold for row in rows]
        n_sentences = max(1, *(max(row.owners) + 1 for row in rows))
        looked = token_attention(read.attention, read.own, self.network.shape.locate_layers)
        shares = sentence_shares(sentence_means(looked, read.owners, n_sentences))
        scores = self.network.reader(read, n_sentences)
        return {"attention": located(shares, gold), "reader": located(scores.softmax(1), gold)}

    def _writing(self, rows: Sequence[Row], fused: Memory) -> torch.Tensor:
        """Summed cross entropy of what is to be generated."""
        targets = [(number, ids) for number, row in enumerate(rows) for ids in row.targets]
        if not targets or not self._config.alpha:
            return torch.zeros((), device=self._device)
        numbers = torch.tensor([number for number, _ in targets], device=self._device)
        told, told_mask = padded([ids[:-1] for _, ids in targets], self.tokens.pad, self._device)
        wanted, _ = padded([ids[1:] for _, ids in targets], IGNORED, self._device)
        mask = None if fused.mask is None else fused.mask[numbers]
        states = self.network.decode(told, Memory(fused.states[numbers], mask))
        there = torch.ones_like(told, dtype=torch.bool) if told_mask is None else told_mask
        logits = self.network.decoder.logits(states[there], self.network.base.words.weight)
        with torch.autocast(self._device.type, enabled=False):
            return written(logits, wanted[there])

    def _questions(self, rows: Sequence[Row]) -> torch.Tensor:
        ids, mask = padded([row.question for row in rows], self.tokens.pad, self._device)
        return pooled(self.network.encoder.states(ids, mask), mask)

    def _negatives(self, rows: Sequence[Row]) -> tuple[torch.Tensor, list[int]]:
        """Mined documents by the momentum encoder, and the place of the question each is for."""
        texts = [(place, ids) for place, row in enumerate(rows) for ids in row.negatives]
        width = self.network.base.shape.hidden_size
        found = torch.zeros(len(texts), width, device=self._device)
        with torch.no_grad():
            for places in token_batches([len(ids) for _, ids in texts], CHUNK_TOKENS):
                chosen = [texts[place][1] for place in places]
                ids, mask = padded(chosen, self.tokens.pad, self._device)
                shared = self.network.encoder.shared(ids, mask)
                found[places] = pooled(self._queue.copied.run(shared, mask), mask)
        return found, [place for place, _ in texts]

    def _contrastive(self, rows: Sequence[Row], documents: torch.Tensor) -> torch.Tensor:
        """Of the bi-encoder's questions and documents `[n, d]`; 0 where it is not trained."""
        if not self._config.contrastive:
            return torch.zeros((), device=self._device)
        questions = self._questions(rows)
        negatives, owners = self._negatives(rows)
        with torch.autocast(self._device.type, enabled=False):
            return self._among_others(rows, questions, documents, negatives, owners)

    def _among_others(
        self,
        rows: Sequence[Row],
        questions: torch.Tensor,
        documents: torch.Tensor,
        negatives: torch.Tensor,
        owners: Sequence[int],
    ) -> torch.Tensor:
        """Among the batch's documents, the queue's, and the question's own mined ones."""
        held = self._queue.held()
        queued = self._queue.vectors[held].to(self._device)
        masked = torch.zeros(len(rows), len(rows) + len(held) + len(owners), dtype=torch.bool)
        near = (questions.detach() @ queued.t()).topk(min(NEAR, len(held))).indices.cpu()
        chosen = self._examples.sets[rows[0].source]
        keys = [row.key for row in rows]
        for place, row in enumerate(rows):
            masked[place, : len(rows)] = torch.tensor(chosen.answers(row.number, keys))
            masked[place, place] = False
            origins = self._queue.origins[held[near[place]]]
            same = origins[:, 0] == row.source
            answers = torch.tensor(chosen.answers(row.number, origins[same, 1].tolist()))
            masked[place, near[place][same] + len(rows)] = answers.bool()
        own = torch.tensor(owners, dtype=torch.long)[None, :]
        masked[:, len(rows) + len(held) :] = own != torch.arange(len(rows))[:, None]
        return contrastive(
            questions,
            documents,
            torch.cat([queued, negatives]),
            masked.to(self._device),
            self._config.temperature,
        )


def _question_masks(rows: Sequence[Row], fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """1 at the questions' own tokens, and at those and the special ones: each `[B, M]`."""
    own = torch.zeros(fused.shape[:2], device=fused.device)
    every = torch.zeros_like(own)
    for number, row in enumerate(rows):
        own[number, 1 : len(row.question) - 1] = 1
        every[number, : len(row.question)] = 1
    return own, every

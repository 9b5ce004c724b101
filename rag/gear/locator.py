"""Pointing at sentences: one fusion pass over a question's hits, and what it attends to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from rag.gear.fusion import Fusion, Memory
from rag.gear.network import GearNetwork, open_network
from rag.gear.reader import sentence_means, sentence_shares, token_attention
from rag.gear.reading import NOBODY, GearTokens, ReadQuestion, ReadText
from rag.gear.shape import Aggregation
from rag.models.bert_layers import padded
from rag.models.resolver import ResolvedModel
from rag.models.torch_runtime import fast_casting
from rag.retrievers.batching import token_batches


class ScoredSentence(NamedTuple):
    """`text[start:end]`, in code points, and its share of the question's attention: all sum to 1.

    With aggregation `reader` the share is of the reader's exponentiated scores.
    """

    start: int
    end: int
    score: float


class ReadDocument(NamedTuple):
    """A document's sentences, its token states `[N, d]`, and each token's id, sentence and place.

    A document longer than the encoder has its windows here one after the other.
    """

    sentences: list[tuple[int, int]]
    ids: list[int]
    states: torch.Tensor
    owners: torch.Tensor
    places: list[tuple[int, int]]


class Locator:
    """Owns a loaded model. Nothing is changed by locating: it is safe for threads."""

    def __init__(self, network: GearNetwork, tokenizer: Path, *, batch_tokens: int) -> None:
        self.network = network
        self.shape = network.shape
        self.tokens = GearTokens(tokenizer)
        self._device = network.base.words.weight.device
        self._batch_tokens = batch_tokens

    def locate(
        self,
        question: str,
        documents: Sequence[tuple[str, str]],
        aggregation: Aggregation | None = None,
    ) -> list[list[ScoredSentence]]:
        """For each document (title, text) its sentences, the likeliest to answer first.

        A document without a token, or a question without one, is scored evenly.
        """
        how = aggregation or self.shape.aggregation
        asked = self.tokens.question(question, self.shape.max_question_tokens)
        with torch.inference_mode(), fast_casting(self._device):
            read = self.read(documents)
            found: list[list[ScoredSentence]] = [[] for _ in documents]
            for places in token_batches([len(one.states) for one in read], self._batch_tokens):
                chosen = [read[place] for place in places]
                shares = self.shares(asked, chosen, how)
                for place, one, row in zip(places, chosen, shares, strict=True):
                    found[place] = _ranked(one.sentences, row)
        return found

    def read(self, documents: Sequence[tuple[str, str]]) -> list[ReadDocument]:
        """Token states of documents; one longer than the encoder is read in windows.

        Cross-attention has no limit of its own: it looks at all windows of a document at once.
        """
        texts = [self.tokens.read(*one, self.shape.max_tokens) for one in documents]
        windows = [(number, w) for number, one in enumerate(texts) for w in one.windows]
        states: list[torch.Tensor] = [torch.empty(0)] * len(windows)
        lengths = [len(window.ids) for _, window in windows]
        for places in token_batches(lengths, self._batch_tokens):
            rows = [windows[place][1].ids for place in places]
            ids, mask = padded(rows, self.tokens.pad, self._device)
            for place, row in zip(places, self.network.encoder.states(ids, mask), strict=True):
                states[place] = row[: lengths[place]]
        by_text: list[list[torch.Tensor]] = [[] for _ in texts]
        for (number, _), row in zip(windows, states, strict=True):
            by_text[number].append(row)
        return [_joined(one, rows) for one, rows in zip(texts, by_text, strict=True)]

    def fuse(self, question: ReadQuestion, documents: Sequence[ReadDocument]) -> Fusion:
        """One question with each of several documents."""
        ids, _ = padded([question.ids] * len(documents), self.tokens.pad, self._device)
        return self.network.fuse(ids, None, _memory(documents))

    def shares(
        self, question: ReadQuestion, documents: Sequence[ReadDocument], how: Aggregation
    ) -> torch.Tensor:
        """Shares `[B, S]`; columns past a document's own sentences are 0."""
        n_sentences = max(len(one.sentences) for one in documents)
        if not n_sentences:
            return torch.zeros(len(documents), 0)
        fused = self.fuse(question, documents)
        own = torch.ones(len(documents), len(question.ids), device=self._device)
        own[:, [0, -1]] = 0
        owners = _owners(documents)
        if how == "attention":
            looked = token_attention(fused.attention, own, self.shape.locate_layers)
            return sentence_shares(sentence_means(looked, owners, n_sentences)).cpu()
        layers = range(1, len(fused.attention) + 1)
        every = [token_attention(fused.attention, own, [layer]) for layer in layers]
        memory = _memory(documents).states
        reader = self.network.reader
        scores = reader(every, fused.states.float().mean(1), memory, owners, n_sentences)
        return scores.softmax(-1).nan_to_num().cpu()


def open_locator(model: ResolvedModel, cache: Path, *, device: str, batch_tokens: int) -> Locator:
    """Load a GeAR folder. Raises what `open_network` raises."""
    network, tokenizer = open_network(model, cache, device)
    return Locator(network, tokenizer, batch_tokens=batch_tokens)


def _joined(text: ReadText, rows: Sequence[torch.Tensor]) -> ReadDocument:
    ids = [token for window in text.windows for token in window.ids]
    owners = [owner for window in text.windows for owner in window.owners]
    places = [place for window in text.windows for place in window.places]
    states = rows[0] if len(rows) == 1 else torch.cat(list(rows))
    return ReadDocument(text.sentences, ids, states, torch.tensor(owners), places)


def _memory(documents: Sequence[ReadDocument]) -> Memory:
    """The documents' states, padded."""
    lengths = [len(one.states) for one in documents]
    first = documents[0].states
    states = first.new_zeros(len(documents), max(lengths), first.shape[1])
    mask = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
    for row, one in enumerate(documents):
        states[row, : lengths[row]] = one.states
        mask[row, : lengths[row]] = True
    return Memory(states, None if min(lengths) == max(lengths) else mask)


def _owners(documents: Sequence[ReadDocument]) -> torch.Tensor:
    longest = max(len(one.owners) for one in documents)
    owners = torch.full((len(documents), longest), NOBODY)
    for row, one in enumerate(documents):
        owners[row, : len(one.owners)] = one.owners
    return owners.to(documents[0].states.device)


def _ranked(sentences: Sequence[tuple[int, int]], shares: torch.Tensor) -> list[ScoredSentence]:
    """Best first; of equal ones the earlier first. A text that got nothing is scored evenly."""
    values = shares[: len(sentences)].tolist()
    if sentences and not sum(values):
        values = [1 / len(sentences)] * len(sentences)
    found = [ScoredSentence(*place, value) for place, value in zip(sentences, values, strict=True)]
    return sorted(found, key=lambda one: (-one.score, one.start))

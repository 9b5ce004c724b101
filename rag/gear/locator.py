"""Pointing at sentences: one fusion pass over a question's hits, and what it attends to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rag.gear.fixed_pass import FixedPass
from rag.gear.fusion import Fusion
from rag.gear.network import GearNetwork, open_network
from rag.gear.padded_pass import PaddedPass, padded_owners
from rag.gear.reader import sentence_means, sentence_shares, token_attention
from rag.gear.reading import GearTokens, ReadDocument, ReadQuestion, ReadText
from rag.gear.shape import Aggregation
from rag.models.resolver import ResolvedModel
from rag.models.torch_runtime import Precision, computing_in, inference_precision
from rag.retrievers.batching import token_batches
from rag.retrievers.worker_threads import WorkerThreads

BATCHES_PER_THREAD = 4
"""So that no thread has much more to do than another, and hits of like length are together."""

MIN_BATCH_TOKENS = 384
"""Smaller batches lose more by their overhead than they gain."""

CHARACTERS = 4
"""Of a token, about; before a text is read."""


class ScoredSentence(NamedTuple):
    """`text[start:end]`, in code points, and its share of the question's attention: all sum to 1.

    With aggregation `reader` the share is of the reader's exponentiated scores.
    """

    start: int
    end: int
    score: float


class Locator:
    """Owns a loaded model. Nothing is changed by locating: it is safe for threads.

    Left out, the precision is half where torch computes that fast, else fixed point of bytes where
    the processor does: pointing needs less than vectors that are kept.
    """

    def __init__(
        self,
        network: GearNetwork,
        tokenizer: Path,
        *,
        batch_tokens: int,
        precision: Precision | None = None,
    ) -> None:
        self._precision = precision or _locating_precision(network.device)
        self.network = network.stored_in(self._precision).seal()
        self.shape = network.shape
        self.tokens = GearTokens(tokenizer)
        self._padded = PaddedPass(self.network, self.tokens.pad)
        self._device = network.device
        self._batch_tokens = batch_tokens
        on_cpu = self._device.type == "cpu"
        self._workers = WorkerThreads(torch.get_num_threads() if on_cpu else 1)

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
        sizes = [len(title) + len(text) for title, text in documents]
        longest = CHARACTERS * self.shape.max_tokens
        long = [place for place, size in enumerate(sizes) if size > longest]
        known = dict(zip(long, self.read([documents[place] for place in long]), strict=True))

        def located(places: Sequence[int]) -> list[list[ScoredSentence]]:
            if places[0] in known:
                read = [known[place] for place in places]
            else:
                read = self._read([documents[place] for place in places], alone=True)
            rows = self.shares(asked, read, how)
            return [_ranked(one.sentences, row) for one, row in zip(read, rows, strict=True)]

        short = [place for place in range(len(documents)) if place not in known]
        jobs = [
            [places[number] for number in batch]
            for places in (long, short)
            for batch in self._batches([sizes[place] for place in places], CHARACTERS)
        ]
        found: list[list[ScoredSentence]] = [[] for _ in documents]
        for places, sentences in zip(jobs, self._workers.map(located, jobs), strict=True):
            for place, ranked in zip(places, sentences, strict=True):
                found[place] = ranked
        return found

    def read(self, documents: Sequence[tuple[str, str]]) -> list[ReadDocument]:
        """Token states of documents; one longer than the encoder is read in windows.

        Cross-attention has no limit of its own: it looks at all windows of a document at once.
        """
        return self._read(documents, alone=False)

    def _read(self, documents: Sequence[tuple[str, str]], *, alone: bool) -> list[ReadDocument]:
        """As `read`; `alone` by this thread, which may be one of the workers."""
        texts = self.tokens.read_all(documents, self.shape.max_tokens)
        windows = [(number, w) for number, one in enumerate(texts) for w in one.windows]
        states: list[torch.Tensor] = [torch.empty(0)] * len(windows)
        lengths = [len(window.ids) for _, window in windows]
        batches = (
            list(token_batches(lengths, self._batch_tokens)) if alone else self._batches(lengths)
        )
        jobs = [[windows[place][1].ids for place in places] for places in batches]
        computed = map(self._states, jobs) if alone else self._workers.map(self._states, jobs)
        for places, rows in zip(batches, computed, strict=True):
            for place, row in zip(places, rows, strict=True):
                states[place] = row
        by_text: list[list[torch.Tensor]] = [[] for _ in texts]
        for (number, _), row in zip(windows, states, strict=True):
            by_text[number].append(row)
        return [_joined(one, rows) for one, rows in zip(texts, by_text, strict=True)]

    def _states(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        with torch.inference_mode(), self._computing():
            return self._pass().states(rows)

    def _pass(self) -> FixedPass | PaddedPass:
        return self.network.fixed() or self._padded

    def _batches(self, lengths: Sequence[int], a_token: int = 1) -> list[list[int]]:
        """Texts of like length together, within the budget, several batches for every thread.

        Lengths are in units of which a token has `a_token`.
        """
        share = sum(lengths) // (BATCHES_PER_THREAD * self._workers.n_threads)
        budget = min(self._batch_tokens * a_token, max(MIN_BATCH_TOKENS * a_token, share))
        return list(token_batches(lengths, budget))

    def fuse(self, question: ReadQuestion, documents: Sequence[ReadDocument]) -> Fusion:
        """One question with each of several documents."""
        with self._computing():
            return self._pass().fuse(question.ids, [one.states for one in documents])

    def _computing(self) -> AbstractContextManager[Any]:
        """Weights stored in half precision are computed in it as they are."""
        if self._precision in ("int16", "int8"):
            return computing_in(self._precision, self._device)
        return nullcontext()

    def shares(
        self, question: ReadQuestion, documents: Sequence[ReadDocument], how: Aggregation
    ) -> torch.Tensor:
        """Shares `[B, S]`; columns past a document's own sentences are 0."""
        with torch.inference_mode():
            return self._shares(question, documents, how)

    def _shares(
        self, question: ReadQuestion, documents: Sequence[ReadDocument], how: Aggregation
    ) -> torch.Tensor:
        n_sentences = max(len(one.sentences) for one in documents)
        if not n_sentences:
            return torch.zeros(len(documents), 0)
        if how == "attention":
            fused = self.fuse(question, documents)
            own = torch.ones(len(documents), len(question.ids), device=self._device)
            own[:, [0, -1]] = 0
            looked = token_attention(fused.attention, own, self.shape.locate_layers)
            owners = padded_owners(documents).to(self._device)
            return sentence_shares(sentence_means(looked, owners, n_sentences)).cpu()
        with self._computing():
            scores = self._pass().scores(question.ids, documents)
        return scores.softmax(-1).nan_to_num().cpu()


def open_locator(
    model: ResolvedModel,
    cache: Path,
    *,
    device: str,
    batch_tokens: int,
    precision: Precision | None = None,
) -> Locator:
    """Load a GeAR folder. Raises what `open_network` raises."""
    network, tokenizer = open_network(model, cache, device)
    return Locator(network, tokenizer, batch_tokens=batch_tokens, precision=precision)


def _locating_precision(device: torch.device) -> Precision:
    quickest = inference_precision(device)
    return "int8" if quickest == "int16" else quickest


def _joined(text: ReadText, rows: Sequence[torch.Tensor]) -> ReadDocument:
    ids = [token for window in text.windows for token in window.ids]
    owners = [owner for window in text.windows for owner in window.owners]
    places = [place for window in text.windows for place in window.places]
    states = rows[0] if len(rows) == 1 else torch.cat(list(rows))
    return ReadDocument(text.sentences, ids, states, owners, places)


def _ranked(sentences: Sequence[tuple[int, int]], shares: torch.Tensor) -> list[ScoredSentence]:
    """Best first; of equal ones the earlier first. A text that got nothing is scored evenly."""
    values = shares[: len(sentences)].tolist()
    if sentences and not sum(values):
        values = [1 / len(sentences)] * len(sentences)
    found = [ScoredSentence(*place, value) for place, value in zip(sentences, values, strict=True)]
    return sorted(found, key=lambda one: (-one.score, one.start))

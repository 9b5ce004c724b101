"""Texts → weights over a model's vocabulary, and which word gave a term its weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from indexes.errors import ModelError
from indexes.representation import Floats, Rows
from rag.retrievers.batching import token_batches
from rag.retrievers.max_pooling import Activation, Pooling
from rag.retrievers.model_tokens import ModelTokenizer, TokenizedText
from rag.retrievers.retriever import TermSource
from rag.retrievers.splade_layout import Side
from rag.retrievers.term_sources import own_tokens, sourced
from rag.retrievers.vocabulary_model import VocabularyModel
from rag.retrievers.worker_threads import WorkerThreads, threads_for

MAX_WEIGHTS = 1 << 22
"""Vocabulary weights that exist at a time: 16 MiB in float32."""

BATCHES_PER_THREAD = 4
MIN_BATCH_TOKENS = 512


class TermWeights(msgspec.Struct, frozen=True):
    """A text's terms: token ids `[k]`, ascending, and their weights float32 `[k]`, above 0."""

    ids: Rows
    weights: Floats
    truncated: bool = False


class VocabularyEncoder:
    """Owns a `model` and its tokeniser. Safe for threads."""

    def __init__(
        self,
        side: Side,
        *,
        echo: bool,
        max_tokens: int,
        device: str,
        batch_tokens: int,
        is_trained: bool = False,
    ) -> None:
        if side.folder is None or side.head == "none":
            raise ModelError("a model with a head over the vocabulary is needed")
        self.model = VocabularyModel(
            side.folder, head=side.head, device=device, second_half=echo, is_trained=is_trained
        )
        limit = self.model.longest or max_tokens
        self.max_tokens = min(max_tokens, (limit - 1) // 2 if echo else limit)
        self._tokenizer = ModelTokenizer(side.folder, self.max_tokens)
        self.tokens = self._tokenizer.tokens(self.model.n_terms)
        self._pooling: Pooling = side.pooling
        self._activation: Activation = side.activation
        self._echo = echo
        self._batch_tokens = batch_tokens
        self._workers = WorkerThreads(threads_for(device))

    @property
    def head_shape(self) -> tuple[int, int]:
        """Rows and columns of the projection onto the vocabulary: (V, d)."""
        return self.model.n_terms, self.model.width

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """For each text the positions that the projection is applied to."""
        return [len(row) // 2 if self._echo else len(row) for row in self.rows(texts)]

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """For each text the token ids that the model is fed; none for an empty text."""
        return [self._fed(text) for text in self._tokenizer.read(texts)]

    def encode(
        self, texts: Sequence[str], n_terms: int, on_done: Callable[[int], None]
    ) -> list[TermWeights]:
        """The texts' terms, the `n_terms` heaviest (0: all). An empty text has none."""
        read = self._tokenizer.read(texts)
        rows = [self._fed(text) for text in read]
        found = [TermWeights(*_nothing(), truncated=text.truncated) for text in read]
        there = [place for place, row in enumerate(rows) if row]
        on_done(len(texts) - len(there))
        lengths = [len(rows[place]) for place in there]
        batches = [[there[number] for number in batch] for batch in self._batches(lengths)]
        jobs = [[rows[place] for place in batch] for batch in batches]
        for batch, results in zip(batches, self._workers.map(self._batch, jobs), strict=True):
            for place, (ids, weights) in zip(batch, results, strict=True):
                kept = heaviest(ids, weights, n_terms)
                found[place] = TermWeights(*kept, truncated=read[place].truncated)
            on_done(len(batch))
        return found

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Within the budget, and small enough that every thread has several to do."""
        share = sum(lengths) // (BATCHES_PER_THREAD * self._workers.n_threads)
        budget = min(self._batch_tokens, max(MIN_BATCH_TOKENS, share))
        return token_batches(lengths, budget, max(1, MAX_WEIGHTS // self.model.n_terms))

    def looked_up(self, texts: Sequence[str], table: Floats, n_terms: int) -> list[TermWeights]:
        """The texts' distinct tokens with a table's weights `[V]`: no model runs."""
        found = []
        for text in self._tokenizer.read(texts):
            ids = np.unique(np.array(own_tokens(text), dtype=np.uint32))
            weights = table[ids]
            kept = heaviest(ids[weights > 0], weights[weights > 0], n_terms)
            found.append(TermWeights(*kept, truncated=text.truncated))
        return found

    def sources(self, text: str, terms: TermWeights) -> list[TermSource]:
        """For each of the text's terms the word whose position the pooling took it from."""
        read = self._tokenizer.read_places(text)
        row = self._fed(read)
        if not row or not len(terms.ids):
            return []
        positions = self.model.best_positions(row, terms.ids.tolist())
        places = read.places
        if self._echo:
            places = [p for p, special in zip(places, read.special, strict=True) if not special]
        found = [places[position] for position in positions]
        return sourced(self.tokens, read, terms.ids, terms.weights, found)

    def own_words(self, text: str, terms: TermWeights) -> list[TermSource]:
        """For each of the terms, all of them tokens of the text, where it stands first."""
        read = self._tokenizer.read_places(text)
        first: dict[int, tuple[int, int]] = {}
        for token, place in zip(read.ids, read.places, strict=True):
            first.setdefault(token, place)
        places = [first[token] for token in terms.ids.tolist()]
        return sourced(self.tokens, read, terms.ids, terms.weights, places)

    def _fed(self, text: TokenizedText) -> list[int]:
        """What the model is fed: for Echo-SPLADE the first special token and the text twice."""
        if not self._echo:
            return text.ids
        body = own_tokens(text)
        lead = text.ids[:1] if text.special and text.special[0] else []
        return [*lead, *body, *body] if body else []

    def _batch(self, rows: Sequence[Sequence[int]]) -> list[tuple[Rows, Floats]]:
        block = self.model.weights(rows, self._pooling, self._activation).numpy()
        at, ids = np.nonzero(block)
        ends = np.cumsum(np.bincount(at, minlength=len(rows)))[:-1]
        weights = block[at, ids]
        return list(
            zip(np.split(ids.astype(np.uint32), ends), np.split(weights, ends), strict=True)
        )


def heaviest(ids: Rows, weights: Floats, n_terms: int) -> tuple[Rows, Floats]:
    """The `n_terms` largest weights (0: all) with their ids, ascending; ties to the lowest id."""
    if not n_terms or len(ids) <= n_terms:
        return ids, weights
    kept = np.sort(np.argsort(-weights, kind="stable")[:n_terms])
    return ids[kept], weights[kept]


def _nothing() -> tuple[Rows, Floats]:
    return np.zeros(0, np.uint32), np.zeros(0, np.float32)

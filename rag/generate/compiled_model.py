"""Language models run by the product's own compiled loops on a CPU, at 8 bits.

The default there: weights in 8 bits by output channel, activations in up to 16, sums of products in
whole numbers (`rag.models.decoder_kernels`). A token's logits depend on its own sequence alone, to
the last bit: however many tokens are fed at once, in whatever pieces and with whichever other
sequences, so drafts, kept prefixes and batches never change a text.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indexes.errors import InvalidInput
from rag.generate.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from rag.generate.compiled_cache import BlockedCache
from rag.generate.ends import eos_ids_of
from rag.generate.language_model import Context, Feed
from rag.generate.limits import check_position, check_tokens
from rag.models.decoder_arrays import Floats, Rows, Sizes, Weights
from rag.models.decoder_kernels import n_stages, run
from rag.models.decoder_shape import DecoderShape
from rag.models.decoder_weights import load_decoder_weights, room_for
from rag.models.optimize import OptimizedModel
from rag.models.resolver import ResolvedModel
from rag.progress import Progress, Silent

if TYPE_CHECKING:
    import torch

RUN_TOKENS = 96
"""Tokens of one pass through the layers: what is computed for them stays in a core's cache."""


_NOTE_AFTER_S = 2.0


class _Token(NamedTuple):
    """One row of a run."""

    token_id: int
    position: int
    cache: BlockedCache
    wanted: bool


class CompiledModel:
    """A decoder's weights and the threads that compute with them; share it between threads."""

    def __init__(
        self,
        sizes: Sizes,
        weights: Weights,
        shape: DecoderShape,
        tokenizer: ChatTokenizer,
        name: str,
        eos_ids: frozenset[int],
        n_threads: int,
    ) -> None:
        self.shape = shape
        self.name = name
        self.tokenizer = tokenizer
        self.context_length: int = shape.context_length
        self.vocabulary_size: int = shape.vocabulary_size
        self.eos_ids = eos_ids
        self._sizes, self._weights = sizes, weights
        self._work = room_for(sizes, RUN_TOKENS)
        self._n_threads = n_threads
        self._pool = ThreadPoolExecutor(max(1, n_threads - 1), "decoder")
        self._helpers: list[Future[None] | None] = [None] * (n_threads - 1)
        self._lock = threading.Lock()

    def open_context(self) -> CompiledContext:
        """A fresh, empty context with a key-value cache of its own."""
        return CompiledContext(self, BlockedCache(self.shape))

    def forward_together(self, feeds: Sequence[Feed], *, exact: bool = False) -> list[torch.Tensor]:
        """Logits of each feed, computed together; always what each gets alone."""
        del exact
        import torch

        contexts = [_ours(feed.context) for feed in feeds]
        for context, feed in zip(contexts, feeds, strict=True):
            context.check(feed.token_ids)
        tokens = [
            token
            for context, feed in zip(contexts, feeds, strict=True)
            for token in context.place(feed.token_ids, last_only=feed.last_only)
        ]
        logits = torch.from_numpy(self._compute(tokens)[:, : self.vocabulary_size])
        for context, feed in zip(contexts, feeds, strict=True):
            context.advance(len(feed.token_ids))
        return list(logits.split([1 if one.last_only else len(one.token_ids) for one in feeds]))

    def _compute(self, tokens: Sequence[_Token]) -> Floats:
        """Logits `[wanted tokens, padded vocabulary]`."""
        out = np.empty((sum(token.wanted for token in tokens), self._sizes.vocabulary), np.float32)
        n_done = 0
        for start in range(0, len(tokens), RUN_TOKENS):
            part = tokens[start : start + RUN_TOKENS]
            wanted = [row for row, token in enumerate(part) if token.wanted]
            rows = Rows(
                token_ids=np.array([token.token_id for token in part], np.int64),
                positions=np.array([token.position for token in part], np.int64),
                caches=np.array([token.cache.address for token in part], np.int64),
                capacities=np.array([token.cache.capacity for token in part], np.int64),
                wanted=np.array(wanted, np.int64),
            )
            with self._lock:
                self._run(rows, out[n_done : n_done + len(wanted)])
            n_done += len(wanted)
        return out

    def _run(self, rows: Rows, out: Floats) -> None:
        progress = np.zeros((n_stages(self._sizes.n_layers), 2), np.int64)
        shared = (self._n_threads, self._sizes, self._weights, self._work, rows, progress, out)
        for helper, former in enumerate(self._helpers):
            # One that has not even left the pass before is not waited for: it finds nothing to do.
            if former is None or former.done():
                self._helpers[helper] = self._pool.submit(run, *shared)
        run(*shared)


class CompiledContext:
    """One sequence and its key-value cache; see `rag.generate.language_model.Context`."""

    def __init__(self, model: CompiledModel, cache: BlockedCache, position: int = 0) -> None:
        self._model = model
        self._cache = cache
        self._position = position

    @property
    def position(self) -> int:
        """Tokens held in the cache."""
        return self._position

    @property
    def n_bytes(self) -> int:
        """Memory that the key-value cache may take."""
        return self._cache.n_bytes

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        """Append tokens; float32 logits `[len(token_ids) or 1, vocabulary]`."""
        return self._model.forward_together([Feed(self, token_ids, last_only)])[0]

    def check(self, token_ids: Sequence[int]) -> None:
        """Raise `InvalidInput` for tokens that cannot be appended."""
        check_tokens(
            token_ids,
            self._position,
            context_length=self._model.context_length,
            vocabulary_size=self._model.vocabulary_size,
        )

    def place(self, token_ids: Sequence[int], *, last_only: bool) -> list[_Token]:
        """The tokens as rows of a run, with room for them in the cache."""
        last = self._position + len(token_ids) - 1
        self._cache = self._cache.with_room(last + 1, self._position)
        return [
            _Token(token_id, position, self._cache, not last_only or position == last)
            for position, token_id in enumerate(token_ids, self._position)
        ]

    def advance(self, n_tokens: int) -> None:
        """Count tokens that were fed."""
        self._position += n_tokens

    def crop(self, position: int) -> None:
        """Forget every token after the first `position`: what lies behind will be overwritten."""
        check_position(position, self._position, "crop to")
        self._position = position

    def fork(self, position: int) -> CompiledContext:
        """A context of its own that holds the first `position` tokens of this one."""
        check_position(position, self._position, "fork at")
        return CompiledContext(self._model, self._cache.copy(position), position)


def _ours(context: Context) -> CompiledContext:
    if not isinstance(context, CompiledContext):
        raise InvalidInput("this context is another model's")
    return context


def load_compiled_model(
    model: ResolvedModel,
    optimized: OptimizedModel,
    *,
    n_threads: int = 0,
    progress: Progress | None = None,
) -> CompiledModel:
    """Open weights that `find_optimized` or `optimize` has checked; nothing is downloaded.

    `n_threads` compute together for all contexts, 0 for as many as there are cores. The first time
    after an installation the loops are compiled, which takes some seconds. Raises `ModelError` when
    the weights cannot be loaded.
    """
    sizes, weights = load_decoder_weights(optimized.weights, optimized.shape)
    opened = CompiledModel(
        sizes,
        weights,
        optimized.shape,
        load_chat_tokenizer(model.folder),
        model.name,
        eos_ids_of(model),
        n_threads or len(os.sched_getaffinity(0)),
    )
    note = "compiling the decoder's loops, once after an installation"
    slow = threading.Timer(_NOTE_AFTER_S, (progress or Silent()).note, [note])
    slow.start()
    try:
        opened.open_context().forward([0])
    finally:
        slow.cancel()
    return opened

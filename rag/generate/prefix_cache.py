"""Key-value caches of prompts seen lately: a prompt that begins alike is fed from where it differs.

What is reused is what the same model computed for the same tokens at the same positions, so the
continuation is that of a fresh prefill. Only a common beginning counts: a passage that stands
elsewhere in the prompt has other keys.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from indexes.errors import InvalidInput
from rag.generate.language_model import Context, LanguageModel


@runtime_checkable
class ForkableContext(Context, Protocol):
    """A context that can be copied; those of both backends can."""

    @property
    def n_bytes(self) -> int:
        """Memory that the key-value cache takes."""

    def fork(self, position: int) -> ForkableContext:
        """A context of its own that holds the first `position` tokens of this one.

        Raises `InvalidInput` unless `0 <= position <= self.position`.
        """


class _Kept(msgspec.Struct, frozen=True, eq=False):
    token_ids: npt.NDArray[np.int64]
    context: ForkableContext

    def common(self, token_ids: npt.NDArray[np.int64]) -> int:
        """How many tokens at the beginning are the same."""
        n_tokens = min(len(token_ids), len(self.token_ids))
        same = self.token_ids[:n_tokens] == token_ids[:n_tokens]
        return n_tokens if same.all() else int(same.argmin())


class PrefixCache:
    """Contexts of one model, in at most `max_bytes` of memory; those used last stay longest.

    Shared between threads. How fast an answer begins tells whether someone asked the like before:
    give tenants who must not learn that of each other a cache each.
    """

    def __init__(self, model: LanguageModel, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """Memory that the kept contexts take."""
        with self._lock:
            return self._n_bytes()

    def open(self, token_ids: Sequence[int]) -> Context:
        """A context that holds as much of the beginning of `token_ids` as any kept one.

        Its `position` says how many tokens that is: always fewer than there are, so that the last
        one is left to feed for its logits.
        """
        wanted = np.asarray(token_ids, np.int64)
        with self._lock:
            best = max(self._kept, key=lambda kept: kept.common(wanted), default=None)
            n_common = 0 if best is None else min(best.common(wanted), len(wanted) - 1)
            if best is not None and n_common > 0:
                self._kept.remove(best)
                self._kept.append(best)
        # A kept context is never fed again, so it is copied without the lock.
        if best is None or n_common <= 0:
            return self._model.open_context()
        return best.context.fork(n_common)

    def keep(self, context: Context, token_ids: Sequence[int]) -> None:
        """Remember a copy of what `context` holds of `token_ids`, the first tokens fed to it.

        Kept beginnings of these tokens are let go of; tokens that are kept already, too many for
        `max_bytes`, or in a context that cannot be copied, are not. Raises `InvalidInput` when the
        context holds fewer.
        """
        if not isinstance(context, ForkableContext) or not self._max_bytes:
            return
        if len(token_ids) > context.position:
            raise InvalidInput(
                f"cannot keep {len(token_ids)} tokens: the context holds {context.position}"
            )
        wanted = np.asarray(token_ids, np.int64)
        with self._lock:
            if any(kept.common(wanted) == len(wanted) for kept in self._kept):
                return
        added = _Kept(wanted, context.fork(len(wanted)))
        if added.context.n_bytes > self._max_bytes:
            return
        with self._lock:
            self._kept = [k for k in self._kept if k.common(wanted) < len(k.token_ids)]
            self._kept.append(added)
            while self._n_bytes() > self._max_bytes:
                del self._kept[0]

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._kept.clear()

    def _n_bytes(self) -> int:
        return sum(kept.context.n_bytes for kept in self._kept)

"""The same text as the model would go on with it had it not been shown the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexes.errors import Cancelled, InvalidInput
from rag.generate.language_model import BesideModel, Context, Feed, LanguageModel
from rag.generate.prefill import PREFILL_TOKENS, Watch, n_common
from rag.generate.prefix_cache import PrefixCache

if TYPE_CHECKING:
    import torch

BESIDE_TOKENS = 4096
"""A longer main context keeps its forward to itself: to bring it into the cache of those that are
fed in one run costs more than the run saves in a short text (SmolLM2 at 7500 tokens)."""


class NullBranch:
    """A context of its own over the prompt without evidence, kept in step with the main one.

    What was generated is compared with what the context holds: what differs is cropped, what is
    missing is fed, all in one forward. The evidence is most of a prompt, so this branch is short
    and costs little but its weights' way through memory; fed in one run with the main one, not even
    that.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt_ids: Sequence[int],
        watch: Watch,
        prefixes: PrefixCache | None = None,
    ) -> None:
        if not prompt_ids:
            raise InvalidInput("the prompt without evidence is empty")
        self._prompt_ids = list(prompt_ids)
        self._watch = watch
        self._beside = model if isinstance(model, BesideModel) else None
        self._open = prefixes.open if prefixes is not None else lambda _: model.open_context()
        self._context: Context | None = None
        self._held: list[int] = []
        self._last: torch.Tensor | None = None

    def forward_with(
        self, context: Context, token_ids: Sequence[int], generated: Sequence[int]
    ) -> torch.Tensor:
        """`context.forward(token_ids)`, and if it can be in the same run this branch's rows.

        `context` is the main branch, and `generated` ends with `token_ids`. A branch that lacks
        more than these, or beside a long context, is fed by `rows`.
        """
        wanted = [*self._prompt_ids, *generated]
        start = len(wanted) - len(token_ids)
        own = self._context if context.position <= BESIDE_TOKENS else None
        if self._beside is None or own is None or n_common(self._held, wanted) < start:
            return context.forward(token_ids)
        self._crop(own, wanted[:start])
        feeds = [Feed(one, token_ids, last_only=False) for one in (context, own)]
        logits, self._last = self._beside.forward_beside(feeds)
        self._held = wanted
        return logits

    def rows(self, generated: Sequence[int], n_rows: int) -> torch.Tensor:
        """Logits `[n_rows, vocabulary]` after the last `n_rows` prefixes of `generated`.

        The last row is after all of it, so `n_rows` is at most `len(generated) + 1`. Raises
        `Cancelled` before a forward that nobody wants any more, and `DeadlineExceeded`.
        """
        wanted = [*self._prompt_ids, *generated]
        context = self._context
        if context is None:
            context = self._context = self._open(self._prompt_ids)
            self._held = self._prompt_ids[: context.position]
        if self._last is not None and len(self._last) == n_rows and self._held == wanted:
            return self._last
        # A row is the logits after a token, so the tokens before all wanted rows are fed at least.
        start = min(n_common(self._held, wanted), len(wanted) - n_rows)
        self._crop(context, wanted[:start])
        fed = wanted[start:]
        while len(fed) > n_rows:
            n_piece = min(len(fed) - n_rows, PREFILL_TOKENS)
            self._feed(context, fed[:n_piece], last_only=True)
            fed = fed[n_piece:]
        return self._feed(context, fed, last_only=n_rows == 1)

    def _crop(self, context: Context, held: list[int]) -> None:
        context.crop(len(held))
        self._held, self._last = held, None

    def _feed(self, context: Context, token_ids: list[int], *, last_only: bool) -> torch.Tensor:
        if self._watch.cancelled():
            raise Cancelled("the text was cancelled")
        logits = context.forward(token_ids, last_only=last_only)
        self._held += token_ids
        return logits

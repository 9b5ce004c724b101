"""RAPID's drafter: a language model that reads the retrieved part of what the target reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexes.errors import InvalidInput
from rag.answer import MAX_DRAFT_TOKENS
from rag.generate.drafter import NO_DRAFT, Allowance, Draft
from rag.generate.language_model import LanguageModel
from rag.generate.prefill import Watch, feed, n_common
from rag.generate.sampler import Sampler

if TYPE_CHECKING:
    import torch

ITSELF = ("rapid", 0)
ANOTHER = ("rapid", 1)
"""Who drafts: the target, or a smaller model."""


class RagDrafter:
    """Drafts with its own context over its own, short prompt (2502.20330, section 3.1).

    The target itself may draft (self-speculation), or any model with the same tokenizer. After a
    draft the context holds all of it but the last token, so after a wholly accepted one the next
    step feeds two. What was rejected is cropped by comparing with the next prefix.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt_ids: Sequence[int],
        target: LanguageModel,
        n_target_prompt: int,
        sampler: Sampler,
        watch: Watch,
    ) -> None:
        if not prompt_ids:
            raise InvalidInput("the drafter's prompt is empty")
        if len(prompt_ids) > model.context_length:
            raise InvalidInput(
                f"the drafter's prompt has {len(prompt_ids)} tokens, "
                f"{model.name} takes {model.context_length}"
            )
        self.room = model.context_length - len(prompt_ids)
        self._source = ITSELF if model is target else ANOTHER
        self._prompt_ids = list(prompt_ids)
        self._n_target_prompt = n_target_prompt
        self._vocabulary_size = target.vocabulary_size
        self._eos_ids = target.eos_ids
        self._context = model.open_context()
        self._held: list[int] = []
        self._sampler = sampler
        self._watch = watch

    def propose(self, prefix: Sequence[int], allowance: Allowance) -> Draft:
        """Draw tokens one by one; an EOS ends the draft, and so does cancelling."""
        left = self.room - (len(prefix) - self._n_target_prompt)
        n_unread = 0 if self._held else len(self._prompt_ids)
        n_tokens = allowance.tokens(self._source, min(MAX_DRAFT_TOKENS, left), n_unread)
        read_s = self._read(allowance) if n_tokens and n_unread else 0.0
        token_ids: list[int] = []
        rows: list[torch.Tensor] = []
        text = list(prefix)
        while len(token_ids) < n_tokens:
            logits = self._logits_after(text)
            if logits is None:
                break
            scores, token = self._sampler.guess(logits)
            token_ids.append(token)
            rows.append(scores)
            if token in self._eos_ids:
                break
            self._sampler.track.push(token)
            text.append(token)
        return Draft(self._source, token_ids, rows, read_s) if token_ids else NO_DRAFT

    def _read(self, allowance: Allowance) -> float:
        """Read the short prompt; the seconds it took."""
        started = self._watch.clock()
        feed(self._context, self._prompt_ids, self._watch)
        self._held = self._prompt_ids[: self._context.position]
        read_s = self._watch.clock() - started
        allowance.has_read(self._source, len(self._held), read_s)
        return read_s

    def observe(self, prefix: Sequence[int], draft: Sequence[int], logits: torch.Tensor) -> None:
        """Nothing to learn from the target's logits."""

    def scores_after(self, text: Sequence[int]) -> torch.Tensor | None:
        """Scores of q after `text`, which the track has reached; None when cancelled."""
        logits = self._logits_after(text)
        return None if logits is None else self._sampler.draft_scores(logits)

    def _logits_after(self, text: Sequence[int]) -> torch.Tensor | None:
        """One row, as wide as the target's, after the short prompt and `text`'s generated part."""
        wanted = [*self._prompt_ids, *text[self._n_target_prompt :]]
        # The last token is always fed: only feeding gives logits.
        common = min(n_common(self._held, wanted), len(wanted) - 1)
        self._context.crop(common)
        row = feed(self._context, wanted[common:], self._watch)
        self._held = wanted[: self._context.position]
        return None if row is None else _fit(row, self._vocabulary_size)


def _fit(row: torch.Tensor, vocabulary_size: int) -> torch.Tensor:
    """Sizes of models with one tokenizer differ by padding: cut it off, or forbid it."""
    if len(row) >= vocabulary_size:
        return row[:vocabulary_size]
    padded = row.new_full((vocabulary_size,), -math.inf)
    padded[: len(row)] = row
    return padded

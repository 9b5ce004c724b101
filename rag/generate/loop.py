"""The decoding loop: prefill, then one committed token a step until something ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from indexes.errors import DeadlineExceeded, InvalidInput
from rag.answer import Decode
from rag.generate.distribution import Stage, draw, is_greedy, sampling_stages, target_scores
from rag.generate.language_model import Context, LanguageModel
from rag.generate.transcript import FinishReason, Transcript

if TYPE_CHECKING:
    import torch

PREFILL_TOKENS = 512
"""A prompt is fed in pieces of this many tokens: cancellation and the deadline act in between."""


class Generation(msgspec.Struct, frozen=True):
    """What came out. `token_ids` are all tokens chosen, with the EOS or stop string that ended it.

    `text` is cut before a stop string. `tokens_per_s` counts the steps after the first token.
    """

    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: float | None
    tokens_per_s: float | None


def generate(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    decode: Decode,
    *,
    stages: Sequence[Stage] = (),
    cancel: threading.Event | None = None,
    deadline: float | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Generation:
    """Decode after `prompt_ids` until EOS, a stop string, `max_tokens` or the context's end.

    `stages` go before temperature and top-p (see `rag.generate.distribution`). `cancel` ends the
    text within one step, with what there is; `deadline` is in `time.monotonic()` seconds and
    raises `DeadlineExceeded`. `on_text` is called in this thread with each new piece of text:
    together the pieces are `text`. Raises `InvalidInput` for a prompt that is empty or does not
    fit the context.
    """
    if not prompt_ids:
        raise InvalidInput("the prompt is empty")
    room = model.context_length - len(prompt_ids)
    if room < 0:
        raise InvalidInput(
            f"the prompt has {len(prompt_ids)} tokens, the model takes {model.context_length}"
        )
    started = time.monotonic()
    # One more than there is room for: the last token need not be fed.
    transcript = Transcript(model, decode, min(decode.max_tokens, room + 1), on_text)
    watch = _Watch(cancel, deadline)
    chooser = _Chooser(decode, stages)
    first_at: float | None = None
    reason: FinishReason | None = None
    context = model.open_context()
    prefix = list(prompt_ids)
    logits = _feed(context, prefix, watch)
    while reason is None and logits is not None:
        token_id = chooser.choose(logits, prefix)
        if first_at is None:
            first_at = time.monotonic()
        prefix.append(token_id)
        reason = transcript.commit(token_id)
        if reason is None:
            logits = _feed(context, [token_id], watch)
    if transcript.finish():
        reason = "stop"
    return _report(transcript, reason or "cancelled", len(prompt_ids), started, first_at)


class _Watch:
    """Tells at each step whether the request is still wanted."""

    def __init__(self, cancel: threading.Event | None, deadline: float | None) -> None:
        self._cancel = cancel
        self._deadline = deadline

    def cancelled(self) -> bool:
        """Whether the request was cancelled; raises `DeadlineExceeded` past the deadline."""
        if self._cancel is not None and self._cancel.is_set():
            return True
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise DeadlineExceeded("the time ran out while the answer was being written")
        return False


class _Chooser:
    """Picks tokens for one request, with one seeded generator."""

    def __init__(self, decode: Decode, stages: Sequence[Stage]) -> None:
        import torch

        self._stages = [*stages, *sampling_stages(decode)]
        self._generator = (
            None if is_greedy(decode) else torch.Generator("cpu").manual_seed(decode.seed)
        )

    def choose(self, logits: torch.Tensor, prefix: Sequence[int]) -> int:
        """The next token id after `prefix`, from its logits `[vocabulary]`."""
        scores = target_scores(logits, prefix, self._stages)
        if self._generator is None:
            return int(scores.argmax())
        return draw(scores, self._generator)


def _feed(context: Context, token_ids: Sequence[int], watch: _Watch) -> torch.Tensor | None:
    """Append tokens; logits `[vocabulary]` after the last of them, None when cancelled."""
    logits = None
    for start in range(0, len(token_ids), PREFILL_TOKENS):
        if watch.cancelled():
            return None
        piece = token_ids[start : start + PREFILL_TOKENS]
        logits = context.forward(piece, last_only=True)[-1]
    return logits


def _report(
    transcript: Transcript,
    reason: FinishReason,
    prompt_tokens: int,
    started: float,
    first_at: float | None,
) -> Generation:
    n_tokens = len(transcript.token_ids)
    rate = None
    if first_at is not None and n_tokens > 1:
        rate = (n_tokens - 1) / max(time.monotonic() - first_at, 1e-9)
    return Generation(
        token_ids=transcript.token_ids,
        text=transcript.text,
        finish_reason=reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=n_tokens,
        first_token_ms=None if first_at is None else (first_at - started) * 1000,
        tokens_per_s=rate,
    )

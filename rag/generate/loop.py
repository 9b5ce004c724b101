"""The decoding loop: prefill, then draft, verify and commit until something ends the text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from indexes.errors import Cancelled, InvalidInput
from rag.answer import MAX_DRAFT_TOKENS, Decode, DecodeReport
from rag.generate.constraint import ConstraintTrack
from rag.generate.distribution import Steering
from rag.generate.drafter import FORCED, NO_DRAFT, Draft
from rag.generate.drafting import Drafting, DraftMemory, open_drafter
from rag.generate.goodput import TARGET, Budget
from rag.generate.judge import Ahead, Judge
from rag.generate.language_model import Context, LanguageModel, SharingContext
from rag.generate.prefill import Watch, feed
from rag.generate.rag_drafter import RagDrafter
from rag.generate.sampler import Rows, Sampler
from rag.generate.transcript import FinishReason, Transcript
from rag.generate.verifier import Rule, rule_of, verified
from rag.models.torch_runtime import threads_here

if TYPE_CHECKING:
    import torch


class Generation(msgspec.Struct, frozen=True):
    """What came out. `token_ids` are all tokens chosen, with the EOS or stop string that ended it.

    `text` is cut before a stop string. `tokens_per_s` counts the steps after the first token. In
    `n_rounds` forwards of the target after the prompt, `drafted` tokens were guessed and
    `accepted` of them stood.
    """

    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: float | None
    tokens_per_s: float | None
    n_rounds: int = 0
    drafted: int = 0
    accepted: int = 0


def generate(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    decode: Decode,
    *,
    steering: Steering | None = None,
    drafting: Drafting | None = None,
    cancel: threading.Event | None = None,
    deadline: float | None = None,
    on_text: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generation:
    """Decode after `prompt_ids` until EOS, a stop string, `max_tokens` or the context's end.

    `steering` bends the distribution before temperature and top-p. `drafting` is what drafters may
    know besides the prompt. `cancel` ends the text within one forward, with what there is;
    `deadline` is in `clock` seconds and raises `DeadlineExceeded`. `on_text` is called in this
    thread with each new `Piece` of text: together they are `text`. Raises `InvalidInput` for a
    prompt that is empty or does not fit the context, and for options that contradict.
    """
    if not prompt_ids:
        raise InvalidInput("the prompt is empty")
    if len(prompt_ids) > model.context_length:
        raise InvalidInput(
            f"the prompt has {len(prompt_ids)} tokens, the model takes {model.context_length}"
        )
    started = clock()
    watch = Watch(cancel, deadline, clock)
    request = _Request(
        model,
        prompt_ids,
        decode,
        steering or Steering(),
        drafting or Drafting(DraftMemory()),
        watch,
        on_text,
        clock,
    )
    reason = request.run()
    return request.report(reason, started)


def decode_report(decode: Decode, generation: Generation) -> DecodeReport:
    """What is told to the one who asked."""
    drafted, n_rounds = generation.drafted, generation.n_rounds
    drafts = decode.drafter != "none"
    return DecodeReport(
        drafter=decode.drafter,
        drafted=drafted,
        accepted=generation.accepted,
        alpha=generation.accepted / drafted if drafted else None,
        gamma=drafted / n_rounds if drafts and n_rounds else None,
        finish_reason=generation.finish_reason,
        first_token_ms=generation.first_token_ms,
        tokens_per_s=generation.tokens_per_s,
    )


class _Request:
    """One request's state: contexts, committed tokens, constraint states, what was drafted."""

    def __init__(
        self,
        model: LanguageModel,
        prompt_ids: Sequence[int],
        decode: Decode,
        steering: Steering,
        drafting: Drafting,
        watch: Watch,
        on_text: Callable[[str], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._rule: Rule = rule_of(decode)
        self._n_prompt = len(prompt_ids)
        self._prefix = list(prompt_ids)
        self._track = ConstraintTrack(steering.constraints, prompt_ids)
        self._sampler = Sampler(decode, steering, self._track)
        self._beside = steering.beside
        self._is_bent = steering.contrast is not None
        self._watch = watch
        self._clock = clock
        self._drafter = open_drafter(decode, model, len(prompt_ids), drafting, self._sampler, watch)
        self._budget = Budget(drafting.memory.goodput, decode.draft_tokens)
        n_drafted = decode.draft_tokens
        self._most_drafted = MAX_DRAFT_TOKENS if n_drafted is None else n_drafted
        self._context_length = model.context_length
        self._eos_ids = model.eos_ids
        # One more than there is room for: the last token need not be fed.
        self._max_tokens = min(decode.max_tokens, model.context_length - len(prompt_ids) + 1)
        if isinstance(self._drafter, RagDrafter) and self._rule.needs_q:
            self._max_tokens = min(self._max_tokens, self._drafter.room + 1)
        self._transcript = Transcript(model, decode, self._max_tokens, on_text)
        self._prefixes = drafting.memory.prefixes
        self._context: Context = (
            self._prefixes.open(prompt_ids) if self._prefixes else model.open_context()
        )
        self._sharing = self._context if isinstance(self._context, SharingContext) else None
        self._ahead = Ahead(self._context, self._eos_ids, watch)
        drafts_with_model = isinstance(self._drafter, RagDrafter)
        is_judged = self._track.asks and not drafts_with_model
        self._judge = Judge(self._track, clock) if is_judged else None
        self._first_at: float | None = None
        self._n_rounds = self._drafted = self._accepted = 0

    def run(self) -> FinishReason:
        """Prefill and decode; why it ended."""
        reason = None
        try:
            # A contrast raises it before a forward of its own.
            with suppress(Cancelled), threads_here(1):
                logits = self._prefill()
                if logits is not None:
                    reason, _ = self._commit(logits[None], NO_DRAFT)
                    while reason is None and not self._watch.cancelled():
                        reason = self._round()
        finally:
            if self._judge is not None:
                self._judge.close()
        if self._transcript.finish():
            return "stop"
        return reason or "cancelled"

    def _prefill(self) -> torch.Tensor | None:
        """Feed what no earlier prompt has fed; logits `[vocabulary]`, None when cancelled."""
        unread = self._prefix[self._context.position :]
        started = self._clock()
        logits = feed(self._context, unread, self._watch)
        self._budget.has_read(TARGET, len(unread), self._clock() - started)
        if logits is not None and self._prefixes is not None:
            self._prefixes.keep(self._context, self._prefix)
        return logits

    def _round(self) -> FinishReason | None:
        """Draft, one forward of the target, commit, crop."""
        found = self._ahead.follow(self._prefix[-1])
        if found is not None:
            self._n_rounds += 1
            return self._commit(found, NO_DRAFT)[0]
        self._context.crop(min(self._context.position, len(self._prefix) - 1))
        started = self._clock()
        draft = self._draft()
        drafted_at = self._clock()
        if self._watch.cancelled():
            return None
        waited_s = self._waited_s()
        self._n_rounds += 1
        logits = self._forward(draft)
        reason, n_accepted = self._commit(logits, draft)
        waited_s = self._waited_s() - waited_s
        self._drafted += len(draft.token_ids)
        self._accepted += n_accepted
        if self._drafter is not None and draft.source != FORCED:
            self._budget.close(
                draft.source,
                len(draft.token_ids),
                n_accepted,
                drafted_at - started - draft.read_s,
                self._clock() - drafted_at - waited_s,
            )
        return reason

    def _forward(self, draft: Draft) -> torch.Tensor:
        """The target's rows after the last token and after each of the draft."""
        token_ids = [self._prefix[-1], *draft.token_ids]
        if self._beside is None:
            return self._context.forward(token_ids)
        generated = [*self._prefix[self._n_prompt :], *draft.token_ids]
        return self._beside.forward_with(self._context, token_ids, generated)

    def _waited_s(self) -> float:
        """Seconds that others' forwards have taken from this request, and constraints."""
        shared_s = 0.0 if self._sharing is None else self._sharing.waited_s
        return shared_s + (0.0 if self._judge is None else self._judge.waited_s)

    def _draft(self) -> Draft:
        """Guesses that fit what is left of the context and of the answer, legal ones only."""
        if self._drafter is None:
            return NO_DRAFT
        n_prefix = len(self._prefix)
        left = self._max_tokens - (n_prefix - self._n_prompt)
        room = min(left - 1, self._context_length - n_prefix)
        self._budget.open(room, n_prefix, 1 if self._sharing is None else self._sharing.load)
        draft = self._drafter.propose(self._prefix, self._budget)
        if draft.scores is None:
            return self._forced(self._legal(draft), min(room, self._most_drafted))
        return draft

    def _legal(self, draft: Draft) -> Draft:
        """Cut a one-hot draft before its first illegal token, after EOS; the track follows it.

        Also before one of which it takes long to say. Nothing is biased by that, since such a draft
        only guesses what will be drawn; a token that was drawn must never be dropped.
        """
        legal: list[int] = []
        for token_id in draft.token_ids:
            if not (self._is_known() and self._track.allows(token_id)):
                break
            legal.append(token_id)
            if token_id in self._eos_ids:
                break
            self._track.push(token_id)
        return draft._replace(token_ids=legal)

    def _forced(self, draft: Draft, room: int) -> Draft:
        """Go on with what the constraints say must come next: it costs no guess."""
        token_ids = list(draft.token_ids)
        while len(token_ids) < room and not self._eos_ids.intersection(token_ids[-1:]):
            if not self._is_known():
                break
            more = self._legal(Draft(FORCED, self._track.forced()[: room - len(token_ids)]))
            if not more.token_ids:
                break
            token_ids += more.token_ids
        return draft if len(token_ids) == len(draft.token_ids) else Draft(FORCED, token_ids)

    def _commit(self, logits: torch.Tensor, draft: Draft) -> tuple[FinishReason | None, int]:
        """Commit what stands and one token more; why the text ends, and how many stood."""
        n_generated = len(self._prefix) - self._n_prompt
        if self._drafter is not None:
            self._drafter.observe(self._prefix, draft.token_ids, logits)
        rows = self._sampler.rows(logits, self._prefix, draft.token_ids, n_generated)
        token_of = rows.token
        if self._judge is not None:
            token_of = partial(self._judged, rows, logits[-1], len(logits) - 1)
        tokens = verified(self._rule, self._sampler, rows, draft, token_of, self._next_scores)
        reason: FinishReason | None = None
        n_accepted = 0
        for token_id, stands in tokens:
            if self._first_at is None:
                self._first_at = self._clock()
            self._prefix.append(token_id)
            n_accepted += stands
            reason = self._transcript.commit(token_id, drafted=bool(stands))
            if reason is not None:
                return reason, n_accepted
        n_tokens = n_generated + n_accepted
        follow = self._track.follow if self._judge is None else self._judge.follow
        follow(n_tokens, self._prefix[self._n_prompt + n_tokens :])
        return None, n_accepted

    def _is_known(self) -> bool:
        """Whether it is known soon what may come after the track's end; without a judge it is."""
        return self._judge is None or self._judge.knows()

    def _judged(self, rows: Rows, last: torch.Tensor, last_row: int, row: int) -> int:
        """`rows.token(row)`; the model goes on after the last row while constraints are asked."""
        assert self._judge is not None
        n_prefix = len(self._prefix)
        n_left = self._max_tokens - (n_prefix - self._n_prompt)
        room = min(n_left - 1, self._context_length - n_prefix)
        if row < last_row or self._is_bent:
            room = 0
        return self._judge.token(rows, row, partial(self._ahead.go_on, last, room))

    def _next_scores(self) -> torch.Tensor | None:
        """The scores of q after all committed tokens, for rapid's rules; None when cancelled."""
        if not isinstance(self._drafter, RagDrafter):
            raise InvalidInput(f"{self._rule.name} needs a drafting model", "/decode/verifier")
        return self._drafter.scores_after(self._prefix)

    def report(self, reason: FinishReason, started: float) -> Generation:
        """What came out, with the rates."""
        token_ids = self._transcript.token_ids
        first_at, rate = self._first_at, None
        if first_at is not None and len(token_ids) > 1:
            rate = (len(token_ids) - 1) / max(self._clock() - first_at, 1e-9)
        return Generation(
            token_ids=token_ids,
            text=self._transcript.text,
            finish_reason=reason,
            prompt_tokens=self._n_prompt,
            completion_tokens=len(token_ids),
            first_token_ms=None if first_at is None else (first_at - started) * 1000,
            tokens_per_s=rate,
            n_rounds=self._n_rounds,
            drafted=self._drafted,
            accepted=self._accepted,
        )

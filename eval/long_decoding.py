"""RAPID by context length: quality and speed of ways to decode over one long context.

* `long`: the target reads all of it, plain decoding.
* `retrieved`: the target reads only the part that RAPID's drafter would read.
* `free`: `long` with free drafters.
* `speculative`: a drafter that reads all of it too (the target itself without another model).
* `rapid`: a drafter that reads the retrieved part, `eta` transferring its knowledge (2502.20330).

The long prompt is read once for each question and length, and shared by the ways that need it;
rates are of what follows. Sampling is off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import msgspec

from eval.answer_text import best, exact_match, token_f1
from eval.long_questions import LongQuestion, read_long_questions
from rag.answer import Decode
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.goodput import Goodput
from rag.generate.language_model import LanguageModel
from rag.generate.loop import Generation, generate
from rag.generate.prefix_cache import PrefixCache
from rag.generate.short_context import short_text
from rag.progress import Progress

INSTRUCTION = "Answer the question with a few words from the text."
PREFIX_BYTES = 4_000_000_000
ROOM_TOKENS = 160
"""Left for the question and the chat template."""

Way = tuple[str, float | None]
"""Name and eta."""


class LongDecodingPlan(msgspec.Struct, frozen=True):
    """What to measure."""

    data: Path
    lengths: Sequence[int] = (1024, 2048, 4096)
    etas: Sequence[float] = (0.0, 5.0, 10.0, 20.0)
    n_questions: int = 10
    max_tokens: int = 32
    draft_tokens: int | None = None
    seed: int = 13


class LongDecodingRow(msgspec.Struct, frozen=True):
    """One way at one length, over all questions.

    `prefill_ms` is the median time to read what the way reads; `tokens_per_s` is the median over
    questions, `speed_up` that of its ratio to `long` for the same question: other work on the
    machine spoils single ones. `alpha` is the share of drafted tokens that stood, `gamma` the mean
    draft.
    """

    length: int
    way: str
    eta: float | None
    n_questions: int
    f1: float
    em: float
    tokens_per_s: float
    speed_up: float
    prefill_ms: float
    alpha: float | None
    gamma: float | None


class _Made(msgspec.Struct, frozen=True):
    generation: Generation
    prefill_ms: float
    f1: float
    em: float


def long_decoding(
    plan: LongDecodingPlan,
    target: LanguageModel,
    drafter: LanguageModel | None,
    progress: Progress,
) -> list[LongDecodingRow]:
    """Measure; lengths beyond the target's context are left out with a note.

    `drafter` is another model with the target's tokenizer, None for self-speculation.
    """
    rows: list[LongDecodingRow] = []
    ways = _ways(plan)
    for length in plan.lengths:
        n_tokens = length - ROOM_TOKENS - plan.max_tokens
        if length > target.context_length or n_tokens <= 0:
            progress.note(f"{length} tokens left out: {target.name} reads {target.context_length}")
            continue
        questions = read_long_questions(
            plan.data, n_tokens, plan.n_questions, target.tokenizer, plan.seed
        )
        goodputs = {way: Goodput() for way in ways}
        made: dict[Way, list[_Made]] = {way: [] for way in ways}
        progress.start(f"{length} tokens", len(questions) * len(ways), "answer")
        for question in questions:
            asking = _Asking(plan, question, target, drafter)
            for way in ways:
                made[way].append(asking.answer(way, goodputs[way]))
                progress.advance(1)
        progress.finish()
        rows += [_row(length, way, found, made[("long", None)]) for way, found in made.items()]
    return rows


def _ways(plan: LongDecodingPlan) -> list[Way]:
    ways: list[Way] = [("long", None), ("retrieved", None), ("free", None), ("speculative", None)]
    return ways + [("rapid", eta) for eta in plan.etas]


class _Asking:
    """One question at one length: its two prompts, and the long one's kept context."""

    def __init__(
        self,
        plan: LongDecodingPlan,
        question: LongQuestion,
        target: LanguageModel,
        drafter: LanguageModel | None,
    ) -> None:
        self._plan, self._question, self._target, self._drafter = plan, question, target, drafter
        self._long = self._prompt(question.context)
        self._short = self._prompt(short_text(question.question, question.context))
        self._prefixes = PrefixCache(target, PREFIX_BYTES)
        self._prefill_ms = 0.0

    def answer(self, way: Way, goodput: Goodput) -> _Made:
        """Decode one way. The first call, `long`, reads the long prompt."""
        name, eta = way
        plan = self._plan
        decode = Decode(plan.max_tokens, drafter="none")
        drafting = Drafting(DraftMemory(goodput, self._prefixes))
        prompt_ids = self._short if name == "retrieved" else self._long
        change: Callable[..., Decode] = msgspec.structs.replace
        if name == "free":
            decode = change(decode, drafter="auto")
        elif name == "speculative":
            drafting = Drafting(drafting.memory, self._drafter, self._long)
            decode = change(
                decode, drafter="rapid", verifier="lossless", draft_tokens=plan.draft_tokens
            )
        elif name == "rapid":
            drafting = Drafting(drafting.memory, self._drafter, self._short)
            decode = change(
                decode,
                drafter="rapid",
                verifier="rapid_exact",
                eta=eta,
                draft_tokens=plan.draft_tokens,
            )
        started = time.perf_counter()
        generation = generate(self._target, prompt_ids, decode, drafting=drafting)
        first_ms = generation.first_token_ms or (time.perf_counter() - started) * 1000
        if name == "long":
            self._prefill_ms = first_ms
        golds = self._question.golds
        return _Made(
            generation,
            first_ms if name == "retrieved" else self._prefill_ms,
            best(token_f1, generation.text, golds),
            best(exact_match, generation.text, golds),
        )

    def _prompt(self, context: str) -> list[int]:
        text = f"{context}\n\n{INSTRUCTION}\nQuestion: {self._question.question}"
        return self._target.tokenizer.chat([("user", text)])


def _rates(found: Sequence[_Made]) -> list[float]:
    """Tokens a second after the first, 0 where there was no second."""
    return [one.generation.tokens_per_s or 0.0 for one in found]


def _row(length: int, way: Way, found: Sequence[_Made], plain: Sequence[_Made]) -> LongDecodingRow:
    pairs = [pair for pair in zip(_rates(found), _rates(plain), strict=True) if all(pair)]
    drafted = sum(one.generation.drafted for one in found)
    n_rounds = sum(one.generation.n_rounds for one in found)
    accepted = sum(one.generation.accepted for one in found)
    return LongDecodingRow(
        length=length,
        way=way[0],
        eta=way[1],
        n_questions=len(found),
        f1=round(mean(one.f1 for one in found), 4),
        em=round(mean(one.em for one in found), 4),
        tokens_per_s=round(median(one for one, _ in pairs), 2) if pairs else 0.0,
        speed_up=round(median(one / other for one, other in pairs), 3) if pairs else 0.0,
        prefill_ms=round(median(one.prefill_ms for one in found), 1),
        alpha=round(accepted / drafted, 3) if drafted else None,
        gamma=round(drafted / n_rounds, 2) if n_rounds else None,
    )

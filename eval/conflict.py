"""Conflicts between context and memory: how often each way to decode follows the context.

The context is the evidence of `rag.generating.GenerateRequest`, so contrastive rules weigh it
against the same prompt without it. Greedy and without drafts. The prompt is read once, uncounted,
and kept for all rules, which then have their turn one after the other: times compare the rules and
not what else the machine does, and hold no reading of the prompt but that without its context.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from statistics import mean, median

import msgspec
import numpy as np

from eval.answer_text import best, contains
from eval.conflict_files import Conflict
from eval.rules import PLAIN, RULES, check_rules, decode_by
from eval.significance import Values, fisher_randomisation, holm
from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate.drafting import DraftMemory
from rag.generate.language_model import LanguageModel
from rag.generate.prefix_cache import PrefixCache
from rag.generating import GenerateRequest, generate_text
from rag.progress import Progress

PREFIX_BYTES = 1 << 30
"""One prompt with its context, and without."""

_WORD = re.compile(r"\w+")


class ConflictPlan(msgspec.Struct, frozen=True):
    """What to measure; the first rule is what the others are compared with."""

    rules: Sequence[str] = RULES
    max_tokens: int = 24


class ConflictAnswer(msgspec.Struct, frozen=True):
    """One prompt, decoded one way. `followed` the context, or `remembered`, or neither."""

    id: str
    rule: str
    text: str
    followed: bool
    remembered: bool
    ms: float
    n_tokens: int


class ConflictRow(msgspec.Struct, frozen=True):
    """One way to decode, over all prompts.

    `p` is of Fisher's randomisation test of `contextual` against the first rule, `p_holm` adjusted
    over all rules. `median_ms` is the whole time of a text; `cost` the median over prompts of the
    time of one token, by the first rule's for the same prompt.
    """

    rule: str
    n: int
    contextual: float
    memorised: float
    p: float | None
    p_holm: float | None
    median_ms: float
    cost: float


def measure_conflicts(
    model: LanguageModel,
    conflicts: Sequence[Conflict],
    plan: ConflictPlan,
    progress: Progress,
    *,
    done: Sequence[ConflictAnswer] = (),
    on_prompt: Callable[[list[ConflictAnswer]], None] | None = None,
) -> list[ConflictAnswer]:
    """Every prompt decoded in every way; `on_prompt` is told the texts as they come.

    Prompts that `done` holds are not decoded again. Raises `InvalidInput` for rules that are none
    and for texts in `done` of other prompts or rules, and as `generate_text` does.
    """
    check_rules(plan.rules)
    answers = list(done)
    decoded = {(one.id, one.rule) for one in done}
    if not decoded <= {(one.id, rule) for one in conflicts for rule in plan.rules}:
        raise InvalidInput("the texts that are there already are of other prompts or rules")
    progress.start("decoding", len(conflicts), "prompt")
    for conflict in conflicts:
        if not {(conflict.id, rule) for rule in plan.rules} <= decoded:
            memory = DraftMemory(prefixes=PrefixCache(model, PREFIX_BYTES))
            _answer(model, conflict, PLAIN, 1, memory)
            found = [_answer(model, conflict, r, plan.max_tokens, memory) for r in plan.rules]
            answers += found
            if on_prompt is not None:
                on_prompt(found)
        progress.advance(1)
    progress.finish()
    return answers


def conflict_rows(answers: Sequence[ConflictAnswer]) -> list[ConflictRow]:
    """The table of them; all rules have the same prompts in the same order."""
    by_rule: dict[str, list[ConflictAnswer]] = {}
    for answer in answers:
        by_rule.setdefault(answer.rule, []).append(answer)
    plain, *others = by_rule.values()
    p_values = [fisher_randomisation(_followed(one) - _followed(plain)) for one in others]
    adjusted = holm(p_values) if p_values else []
    tests = [(None, None), *zip(p_values, adjusted, strict=True)]
    return [
        ConflictRow(
            rule=rule,
            n=len(found),
            contextual=mean(one.followed for one in found),
            memorised=mean(one.remembered for one in found),
            p=p,
            p_holm=p_holm,
            median_ms=median(one.ms for one in found),
            cost=median(
                _token_ms(one) / _token_ms(other) for one, other in zip(found, plain, strict=True)
            ),
        )
        for (rule, found), (p, p_holm) in zip(by_rule.items(), tests, strict=True)
    ]


def verdict(conflict: Conflict, text: str) -> tuple[bool, bool]:
    """Whether the text follows the context, and whether it says what was memorised.

    A continuation is judged by the words that it begins with, an answer by those that it holds; one
    that holds both answers follows the context.
    """
    if conflict.continues:
        followed = any(_begins(text, one) for one in conflict.contextual)
        remembered = any(_begins(text, one) for one in conflict.memorised)
    else:
        followed = best(contains, text, conflict.contextual) > 0
        remembered = best(contains, text, conflict.memorised) > 0
    return followed, remembered and not followed


def _answer(
    model: LanguageModel, conflict: Conflict, rule: str, n_tokens: int, memory: DraftMemory
) -> ConflictAnswer:
    request = GenerateRequest(
        prompt=conflict.prompt,
        context=conflict.context,
        raw=conflict.continues,
        decode=decode_by(rule, Decode(n_tokens)),
    )
    began = time.perf_counter()
    response = generate_text(model, request, memory=memory)
    ms = (time.perf_counter() - began) * 1000
    followed, remembered = verdict(conflict, response.text)
    n_made = response.usage.completion_tokens
    return ConflictAnswer(conflict.id, rule, response.text, followed, remembered, ms, n_made)


def _begins(text: str, answer: str) -> bool:
    wanted = _WORD.findall(answer.lower())
    return bool(wanted) and _WORD.findall(text.lower())[: len(wanted)] == wanted


def _followed(answers: Sequence[ConflictAnswer]) -> Values:
    return np.array([one.followed for one in answers], np.float64)


def _token_ms(answer: ConflictAnswer) -> float:
    return answer.ms / max(1, answer.n_tokens)

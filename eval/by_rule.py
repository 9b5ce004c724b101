"""The same questions answered by several rules: what each does to the measures and to the time.

The rules have their turn question by question, over a prompt that is read once, uncounted, and kept
for all of them: times compare the rules, and hold no reading of the prompt but that without its
evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median

import msgspec
import numpy as np

from eval.compare import Comparison, compare
from eval.rules import PLAIN, check_rules, decode_by
from eval.significance import bootstrap_interval
from indexes.errors import InvalidInput
from rag.answer import AnswerRequest, AnswerResponse, Decode
from rag.progress import Progress
from rag.service import Service


class Asked(msgspec.Struct, frozen=True):
    """One question, and how its answers are measured."""

    id: str
    request: AnswerRequest
    measure: Callable[[AnswerResponse], Mapping[str, float]]


class RuleAnswer(msgspec.Struct, frozen=True):
    """One question answered by one rule; `ms` is the time of generating."""

    id: str
    rule: str
    answer: str
    measures: dict[str, float]
    ms: float
    n_tokens: int


class RuleRow(msgspec.Struct, frozen=True):
    """One rule over all questions: `measures` are means, `n` questions each.

    `against` compares each measure with the first rule's, unless it is that one, and `bounds` are
    those of the difference at 95 %. `median_ms` is the whole time of a text; `cost` the median over
    questions of the time of one token, by the first rule's for the same question.
    """

    rule: str
    n: int
    measures: dict[str, float]
    against: dict[str, Comparison]
    bounds: dict[str, tuple[float, float]]
    median_ms: float
    cost: float


def answer_by_rules(
    service: Service,
    asked: Sequence[Asked],
    rules: Sequence[str],
    progress: Progress,
    *,
    done: Sequence[RuleAnswer] = (),
    on_question: Callable[[list[RuleAnswer]], None] | None = None,
) -> list[RuleAnswer]:
    """Every question answered by every rule; `on_question` is told the answers as they come.

    Questions that `done` holds are not asked again. Raises `InvalidInput` for rules that are none,
    and for answers in `done` to other questions or by other rules, and what the service raises.
    """
    check_rules(rules)
    found = list(done)
    answered = {(one.id, one.rule) for one in done}
    if not answered <= {(one.id, rule) for one in asked for rule in rules}:
        raise InvalidInput("the answers that are there already are to other questions or rules")
    progress.note("loading the language model")
    service.generator()
    progress.start("answering", len(asked), "question")
    for one in asked:
        if not {(one.id, rule) for rule in rules} <= answered:
            service.answer(_by(one.request, PLAIN, max_tokens=1))
            answers = [_answer(service, one, rule) for rule in rules]
            found += answers
            if on_question is not None:
                on_question(answers)
        progress.advance(1)
    progress.finish()
    return found


def rule_rows(answers: Sequence[RuleAnswer], measures: Sequence[str]) -> list[RuleRow]:
    """The table of them; a measure runs over the questions that it applies to by every rule.

    One that applies to no question is left out.
    """
    by_rule: dict[str, dict[str, RuleAnswer]] = {}
    for answer in answers:
        by_rule.setdefault(answer.rule, {})[answer.id] = answer
    first = next(iter(by_rule))
    runs = {
        rule: {measure: _applying(by_rule, rule, measure) for measure in measures}
        for rule in by_rule
    }
    shown = [measure for measure in measures if runs[first][measure]]
    compared: list[Comparison] = compare(runs, shown) if len(runs) > 1 and shown else []
    return [
        RuleRow(
            rule=rule,
            n=len(found),
            measures={m: mean(runs[rule][m].values()) for m in shown},
            against={one.measure: one for one in compared if one.run == rule},
            bounds={m: _bounds(runs[rule][m], runs[first][m]) for m in shown if rule != first},
            median_ms=median(one.ms for one in found.values()),
            cost=median(
                _token_ms(one) / _token_ms(by_rule[first][id_]) for id_, one in found.items()
            ),
        )
        for rule, found in by_rule.items()
    ]


def _answer(service: Service, asked: Asked, rule: str) -> RuleAnswer:
    response = service.answer(_by(asked.request, rule))
    return RuleAnswer(
        id=asked.id,
        rule=rule,
        answer=response.answer,
        measures=dict(asked.measure(response)),
        ms=response.timings_ms.get("generate", 0.0),
        n_tokens=response.usage.completion_tokens,
    )


def _by(request: AnswerRequest, rule: str, *, max_tokens: int | None = None) -> AnswerRequest:
    decode: Decode = decode_by(rule, request.decode)
    if max_tokens is not None:
        decode = msgspec.structs.replace(decode, max_tokens=max_tokens)
    return msgspec.structs.replace(request, decode=decode)


def _applying(
    by_rule: Mapping[str, Mapping[str, RuleAnswer]], rule: str, measure: str
) -> dict[str, float]:
    return {
        id_: one.measures[measure]
        for id_, one in by_rule[rule].items()
        if all(measure in found[id_].measures for found in by_rule.values())
    }


def _bounds(one: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, float]:
    return bootstrap_interval(np.array([one[id_] - other[id_] for id_ in other], np.float64))


def _token_ms(answer: RuleAnswer) -> float:
    """Never 0: a question without evidence takes no time by any rule."""
    return max(answer.ms, 1e-3) / max(1, answer.n_tokens)

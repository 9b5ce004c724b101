"""Ways to decode that are compared over the same prompts, as one word each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate.faithful import parse_faithful

PLAIN = "off"
EXTRACT = "extract"
MOMENTUM = "momentum"
RULES = (PLAIN, "cad:0.15", "cad:0.3", "cad:0.5", "cad:1", "adacad", EXTRACT)
"""Rules of `rag.generate.faithful`, and extraction of a stretch of the context.

`RULE@BETA` is a rule of the former under `plausibility` BETA: `cad:0.5@0.1`.
"""


def check_rules(rules: Sequence[str]) -> None:
    """Raises `InvalidInput` for a rule that is none, is there twice, or none at all."""
    if not rules or len(set(rules)) < len(rules):
        raise InvalidInput("one rule or more, each once")
    for rule in rules:
        if rule not in (EXTRACT, MOMENTUM):
            name, beta = _plausible(rule)
            parse_faithful(name)
            if not 0 <= beta <= 1:
                raise InvalidInput(f"{rule!r}: a plausibility is between 0 and 1")


def decode_by(rule: str, decode: Decode) -> Decode:
    """`decode` by the rule, without drafts, so that times compare rules and nothing else."""
    decode = msgspec.structs.replace(decode, drafter="none", faithful=PLAIN, mode="free")
    if rule == EXTRACT:
        return msgspec.structs.replace(decode, mode="extract")
    if rule == MOMENTUM:
        return msgspec.structs.replace(decode, mode="momentum")
    name, beta = _plausible(rule)
    return msgspec.structs.replace(decode, faithful=name, plausibility=beta)


def _plausible(rule: str) -> tuple[str, float]:
    """`cad:0.5@0.1` → `cad:0.5` and 0.1."""
    name, at, beta = rule.partition("@")
    try:
        return name, float(beta) if at else 0.0
    except ValueError as error:
        raise InvalidInput(f"{rule!r}: {beta!r} is no plausibility") from error

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
"""Rules of `rag.generate.faithful`, and extraction of a stretch of the context."""


def check_rules(rules: Sequence[str]) -> None:
    """Raises `InvalidInput` for a rule that is none, is there twice, or none at all."""
    if not rules or len(set(rules)) < len(rules):
        raise InvalidInput("one rule or more, each once")
    for rule in rules:
        if rule not in (EXTRACT, MOMENTUM):
            parse_faithful(rule)


def decode_by(rule: str, decode: Decode) -> Decode:
    """`decode` by the rule, without drafts, so that times compare rules and nothing else."""
    decode = msgspec.structs.replace(decode, drafter="none", faithful=PLAIN, mode="free")
    if rule == EXTRACT:
        return msgspec.structs.replace(decode, mode="extract")
    if rule == MOMENTUM:
        return msgspec.structs.replace(decode, mode="momentum")
    return msgspec.structs.replace(decode, faithful=rule)

"""Metadata filters: which documents may be searched at all."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Scalar = str | int | float | bool
FieldPath = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Bounds on a number or a string (ISO dates order as strings)."""

    gte: float | str | None = None
    gt: float | str | None = None
    lte: float | str | None = None
    lt: float | str | None = None


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One test of one metadata field; dots in `field` descend. Exactly one test is given.

    `match` is equality (or membership, where the field holds a list), `in` any of several.
    """

    field: FieldPath
    match: Scalar | None = None
    any_of: Annotated[list[Scalar], msgspec.Meta(min_length=1, max_length=1000)] | None = (
        msgspec.field(default=None, name="in")
    )
    range: Range | None = None
    exists: bool | None = None


Conditions = Annotated[list[Condition], msgspec.Meta(max_length=64)]


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of `must`, none of `must_not`, and at least one of `should` where any is given."""

    must: Conditions = []
    should: Conditions = []
    must_not: Conditions = []


def is_empty(chosen: Filter | None) -> bool:
    """Whether the filter lets every document through."""
    return chosen is None or not (chosen.must or chosen.should or chosen.must_not)


Metadata = dict[str, Any]

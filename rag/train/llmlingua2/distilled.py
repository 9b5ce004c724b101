"""A teacher's pairs as examples: annotated, and those that annotation cannot trust left out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from indexes.errors import InvalidInput
from indexes.files import sha256_of
from rag.train.llmlingua2.annotation import Annotation, annotate
from rag.train.llmlingua2.distillation import read_pairs
from rag.train.llmlingua2.example import Example
from rag.train.llmlingua2.recipe import DistilledSource


class Distilled(msgspec.Struct, frozen=True):
    """A file as read."""

    source: DistilledSource
    examples: list[Example]
    sha256: str


def read_distilled(data: Path, source: DistilledSource) -> Distilled:
    """Read and filter a file. Raises `InvalidInput` when it is absent or leaves nothing."""
    path = data / source.file
    pairs = read_pairs(path)
    found = [annotate(pair.text, pair.compressed) for pair in pairs]
    kept = trusted(found, source.drop_variation, source.drop_gap)
    if not kept:
        raise InvalidInput(f"training data {source.name!r}: {path} is absent or holds no pair")
    facts = [msgspec.to_builtins(source), sha256_of(path)]
    return Distilled(
        source,
        [Example("", pairs[number].text, found[number].preserve) for number in kept],
        hashlib.sha256(msgspec.json.encode(facts)).hexdigest(),
    )


def trusted(found: Sequence[Annotation], drop_variation: float, drop_gap: float) -> list[int]:
    """Numbers, ascending, of what is left without the worst shares, first by one, then the other.

    Of equals the earlier ones stay.
    """
    left = list(range(len(found)))
    left.sort(key=lambda number: found[number].variation)
    left = left[: len(left) - int(drop_variation * len(left))]
    left.sort(key=lambda number: (found[number].gap, number))
    return sorted(left[: len(left) - int(drop_gap * len(left))])

"""Which tokens end a model's text."""

from __future__ import annotations

from rag.models.resolver import ResolvedModel
from rag.models.safety import read_object


def eos_ids_of(model: ResolvedModel) -> frozenset[int]:
    """By transformers' rule: what the generation config says, else the model's config."""
    found = read_object(model.folder / "generation_config.json")
    if found is None:
        found = read_object(model.folder / "config.json") or {}
    eos = found.get("eos_token_id")
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)

"""How many tokens a model can read."""

from __future__ import annotations

from typing import Any

_RESERVED = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl"})
"""These keep places up to the padding token's id free."""


def readable_tokens(config: Any) -> int | None:
    """The limit that a transformers configuration sets; None where it sets none."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None:
        return None
    if config.model_type in _RESERVED:
        return int(longest) - (config.pad_token_id or 0) - 1
    return int(longest)

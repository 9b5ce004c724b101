"""What every backend's context refuses, with the same words."""

from __future__ import annotations

from collections.abc import Sequence

from indexes.errors import InvalidInput


def check_tokens(
    token_ids: Sequence[int], position: int, *, context_length: int, vocabulary_size: int
) -> None:
    """Raise `InvalidInput` unless these tokens may follow the `position` ones already held."""
    if not token_ids:
        raise InvalidInput("no token to feed")
    if min(token_ids) < 0 or max(token_ids) >= vocabulary_size:
        raise InvalidInput(f"token ids must be in 0..{vocabulary_size - 1}")
    if position + len(token_ids) > context_length:
        raise InvalidInput(
            f"{position + len(token_ids)} tokens do not fit the model's context of {context_length}"
        )


def check_position(wanted: int, position: int, verb: str) -> None:
    """Raise `InvalidInput` unless `wanted` is among the tokens held; `verb` is what is tried."""
    if not 0 <= wanted <= position:
        raise InvalidInput(f"cannot {verb} {wanted}: the context holds {position}")

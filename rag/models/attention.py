"""Attention to one text, in the numbers that a layer's weights or a text's keys were rounded to.

For compiled code, which picks by their type once, when it is compiled.
"""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from rag.models.byte_attention import attend_bytes, byte_room, look_bytes
from rag.models.byte_point import ByteWeights
from rag.models.dense_product import DenseWeights
from rag.models.fixed_attention import attend, look, room_for
from rag.models.fixed_point import Floats
from rag.models.vector_code import COMPILED_AS

QUERIES = 24
"""Looked with at a time, in 16 bits: a text's keys may come from the second cache for each."""


def attend_as(_weights: DenseWeights, read: Floats, n_heads: int, mixed: Floats) -> None:
    """A text's queries, keys and values side by side `[l, 3 d]` → what its heads read `[l, d]`.

    In the numbers of the layer's weights.
    """
    choose = attend_bytes if isinstance(_weights, ByteWeights) else attend
    choose(read, n_heads, mixed)


@overload(attend_as, jit_options=COMPILED_AS)  # type: ignore[untyped-decorator]
def _attend_as(_weights: Any, read: Any, n_heads: Any, mixed: Any) -> Any:
    del read, n_heads, mixed
    return _attend_in_bytes if _weights.instance_class is ByteWeights else _attend_in_shorts


def _attend_in_bytes(_weights: Any, read: Any, n_heads: Any, mixed: Any) -> Any:
    attend_bytes(read, n_heads, mixed)


def _attend_in_shorts(_weights: Any, read: Any, n_heads: Any, mixed: Any) -> Any:
    attend(read, n_heads, mixed)


def look_as(
    asked: Floats,
    head_size: int,
    keys: DenseWeights,
    values: DenseWeights,
    n_rows: int,
    mixed: Floats,
    shares: Floats,
) -> None:
    """Queries `[m, d]` and a text of `n_rows` → what they read of it, and their attention to it.

    In the numbers of its keys and values; scores are divided by the root of `head_size`.
    """
    choose = _look_in_bytes if isinstance(keys, ByteWeights) else _look_in_shorts
    choose(asked, head_size, keys, values, n_rows, mixed, shares)


@overload(look_as, jit_options=COMPILED_AS)  # type: ignore[untyped-decorator]
def _look_as(
    asked: Any, head_size: Any, keys: Any, values: Any, n_rows: Any, mixed: Any, shares: Any
) -> Any:
    del asked, head_size, values, n_rows, mixed, shares
    return _look_in_bytes if keys.instance_class is ByteWeights else _look_in_shorts


def _look_in_bytes(
    asked: Any, head_size: Any, keys: Any, values: Any, n_rows: Any, mixed: Any, shares: Any
) -> Any:
    room = byte_room(asked.shape[1], n_rows)
    look_bytes(asked, 0, head_size, keys, values, n_rows, room, mixed, 0, shares)


def _look_in_shorts(
    asked: Any, head_size: Any, keys: Any, values: Any, n_rows: Any, mixed: Any, shares: Any
) -> Any:
    room = room_for(QUERIES, asked.shape[1], n_rows)
    look(asked, 0, head_size, keys, values, n_rows, room, mixed, 0, shares)

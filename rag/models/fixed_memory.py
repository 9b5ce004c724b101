"""Documents' token states as weights: of scores, an output a token, of mixtures, an input each.

Rounded once for all that looks at them, in 16 bits or in bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from rag.models.byte_attention import byte_keys, byte_values, grouped
from rag.models.byte_code import STEP_BYTES
from rag.models.byte_point import ByteWeights, SignedBytes
from rag.models.dense_product import DenseWeights
from rag.models.fixed_attention import filled, fix_keys, fix_values
from rag.models.fixed_point import FixedWeights, Floats, Shorts
from rag.models.torch_runtime import Rounding
from rag.models.vector_code import COLUMNS, COMPILED_AS, compiled

Bounds = NDArray[np.int64]


class ShortMemory(NamedTuple):
    """Documents end to end, each in whole panels: `FixedWeights`' arrays, values flat.

    Document i has tokens bounds[i] to before bounds[i + 1], and in panels rows from starts[i] on.
    `value_scales` float32 `[documents, d]`.
    """

    bounds: Bounds
    starts: Bounds
    keys: Shorts
    key_scales: Floats
    values: Shorts
    value_scales: Floats


class ByteMemory(NamedTuple):
    """As `ShortMemory`, of `ByteWeights`, in whole groups; `by_value` is `[documents, ...]`."""

    bounds: Bounds
    starts: Bounds
    keys: SignedBytes
    by_key: Floats
    values: SignedBytes
    by_value: Floats


Memory = ShortMemory | ByteMemory


def remember(rows: Floats, bounds: Bounds, rounding: Rounding) -> Memory:
    """States `[m, d]` of documents end to end."""
    found: Memory = short_memory(rows, bounds) if rounding == "int16" else byte_memory(rows, bounds)
    return found


def text_of(memory: Memory, text: int) -> tuple[DenseWeights, DenseWeights]:
    """A document's states as keys and as values; for compiled code too."""
    if isinstance(memory, ByteMemory):
        return bytes_of(memory, text)
    return shorts_of(memory, text)


@overload(text_of, jit_options=COMPILED_AS)  # type: ignore[untyped-decorator]
def _text_of(memory: Any, text: Any) -> Any:
    del text
    return _of_bytes if memory.instance_class is ByteMemory else _of_shorts


def _of_bytes(memory: Any, text: Any) -> Any:
    return bytes_of(memory, text)


def _of_shorts(memory: Any, text: Any) -> Any:
    return shorts_of(memory, text)


@compiled
def shorts_of(memory: ShortMemory, text: int) -> tuple[FixedWeights, FixedWeights]:
    """As `text_of`, in 16 bits."""
    first, last = memory.starts[text], memory.starts[text + 1]
    width = memory.value_scales.shape[1]
    nothing = np.zeros(max(last - first, width), np.float32)
    values = memory.values[first * width : last * width]
    shape = width // COLUMNS, (last - first) // 2, COLUMNS, 2
    return (
        FixedWeights(
            memory.keys[first // COLUMNS : last // COLUMNS], memory.key_scales[first:last], nothing
        ),
        FixedWeights(values.reshape(shape), memory.value_scales[text], nothing),
    )


@compiled
def bytes_of(memory: ByteMemory, text: int) -> tuple[ByteWeights, ByteWeights]:
    """As `text_of`, in bytes."""
    first, last = memory.starts[text], memory.starts[text + 1]
    top, end = first // COLUMNS, last // COLUMNS
    n_panels = memory.by_value.shape[1]
    width = n_panels * COLUMNS
    values = memory.values[first * width : last * width]
    shape = n_panels, (last - first) // STEP_BYTES, COLUMNS, STEP_BYTES
    return (
        ByteWeights(memory.keys[top:end], memory.by_key[top:end]),
        ByteWeights(values.reshape(shape), memory.by_value[text]),
    )


@compiled
def short_memory(rows: Floats, bounds: Bounds) -> ShortMemory:
    """As `remember`, in 16 bits."""
    width, n_texts = rows.shape[1], len(bounds) - 1
    starts = np.zeros(n_texts + 1, np.int64)
    for text in range(n_texts):
        starts[text + 1] = starts[text] + filled(bounds[text + 1] - bounds[text])
    n_filled = starts[n_texts]
    memory = ShortMemory(
        bounds,
        starts,
        np.zeros((n_filled // COLUMNS, width // 2, COLUMNS, 2), np.int16),
        np.zeros(n_filled, np.float32),
        np.zeros(n_filled * width, np.int16),
        np.empty((n_texts, width), np.float32),
    )
    for text in range(n_texts):
        states = rows[bounds[text] : bounds[text + 1]]
        keys, values = shorts_of(memory, text)
        fix_keys(states, 0, width, keys.panels, keys.scales)
        fix_values(states, 0, width, values.panels, values.scales)
    return memory


@compiled
def byte_memory(rows: Floats, bounds: Bounds) -> ByteMemory:
    """As `remember`, in bytes."""
    width, n_texts = rows.shape[1], len(bounds) - 1
    starts = np.zeros(n_texts + 1, np.int64)
    for text in range(n_texts):
        starts[text + 1] = starts[text] + grouped(bounds[text + 1] - bounds[text])
    n_panels = starts[n_texts] // COLUMNS
    memory = ByteMemory(
        bounds,
        starts,
        np.zeros((n_panels, width // STEP_BYTES, COLUMNS, STEP_BYTES), np.int8),
        np.zeros((n_panels, 3, COLUMNS), np.float32),
        np.zeros(n_panels * COLUMNS * width, np.int8),
        np.zeros((n_texts, width // COLUMNS, 3, COLUMNS), np.float32),
    )
    for text in range(n_texts):
        states = rows[bounds[text] : bounds[text + 1]]
        keys, values = bytes_of(memory, text)
        byte_keys(states, 0, width, keys)
        byte_values(states, 0, width, values)
    return memory

"""What a decoder's compiled loops work on: sizes, weights, room for results, rows of tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CODES, SCALES, BIAS = 0, 1, 2
QKV, OUT, GATE_UP, DOWN, ATTENTION_NORM, FEED_FORWARD_NORM = 0, 3, 6, 9, 12, 13
HEAD, LAST_NORM = 0, 12
"""Columns of `Weights.places`; the head and the last norm stand in the row after the layers."""

UNIT = 2
"""Tiles that a thread takes at least: the gate's and the upper projection's of the same outputs."""

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]


class Sizes(NamedTuple):
    """Widths; the inner width and the vocabulary are padded to whole tiles."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    hidden: int
    inner: int
    vocabulary: int
    norm_epsilon: float


class Weights(NamedTuple):
    """All weights in two arrays, and where each part of them begins."""

    codes: NDArray[np.int8]
    numbers: Floats
    places: Longs
    embedding_codes: NDArray[np.uint8]
    embedding_scales: Floats
    cosines: Floats
    sines: Floats
    windows: Longs


class Work(NamedTuple):
    """Room for what a run computes, a row a token."""

    residual: Floats
    kept: Floats
    levels: NDArray[np.int16]
    steps: Floats
    wide: Floats
    narrow: Floats


class Rows(NamedTuple):
    """The tokens of a run: where each stands in which cache, and whose logits are wanted."""

    token_ids: Longs
    positions: Longs
    caches: Longs
    capacities: Longs
    wanted: Longs

"""Attention over blocked caches: keys and values kept, queries turned, values mixed."""

from __future__ import annotations

import numpy as np

from rag.models.decoder_arrays import Floats, Rows, Sizes, Weights, Work
from rag.models.decoder_code import LANES, attention_mixture, attention_scores, compiled, keep_half
from rag.models.decoder_rows import exponentials, turn

MOST_HEADS = 4
"""Query heads that read a block of keys together."""

_scores_1, _scores_2 = attention_scores(1), attention_scores(2)
_scores_3, _scores_4 = attention_scores(3), attention_scores(4)
_mixture_1, _mixture_2 = attention_mixture(1), attention_mixture(2)
_mixture_3, _mixture_4 = attention_mixture(3), attention_mixture(4)


@compiled
def turn_and_keep(
    sizes: Sizes, weights: Weights, layer: int, rows: Rows, row: int, qkv: Floats
) -> None:
    """Rotary positions of a row's queries and keys, and its keys and values into its cache."""
    position, capacity, size = rows.positions[row], rows.capacities[row], sizes.head_size
    cosines, sines = weights.cosines[position], weights.sines[position]
    n_kept = sizes.n_kv_heads * capacity * size
    keys = rows.caches[row] + 2 * 2 * n_kept * layer
    values = keys + 2 * n_kept
    scale = np.float32(1) / np.sqrt(np.float32(size))
    for head in range(sizes.n_heads):
        turn(qkv[head * size :][:size], cosines, sines, scale)
    block, lane = position // LANES, position % LANES
    for head in range(sizes.n_kv_heads):
        key = qkv[(sizes.n_heads + head) * size :][:size]
        value = qkv[(sizes.n_heads + sizes.n_kv_heads + head) * size :][:size]
        turn(key, cosines, sines, np.float32(1))
        base = head * capacity * size
        for channel in range(size):
            place = base + (block * size + channel) * LANES + lane
            keep_half(keys + 2 * place, key[channel])
        for chunk in range(size // LANES):
            target = values + 2 * (base + (chunk * capacity + position) * LANES)
            for channel in range(LANES):
                keep_half(target + 2 * channel, value[chunk * LANES + channel])


@compiled
def room_for_scores(rows: Rows) -> tuple[Floats, Floats]:
    """Room for the scores of some heads of a row, and for what makes them shares."""
    longest = 0
    for row in range(len(rows.positions)):
        longest = max(longest, rows.positions[row] + 1)
    width = -(-longest // LANES) * LANES
    return np.empty((MOST_HEADS, width), np.float32), np.empty(MOST_HEADS, np.float32)


@compiled
def attend(
    sizes: Sizes,
    window: int,
    layer: int,
    rows: Rows,
    work: Work,
    item: int,
    scores: Floats,
    shares: Floats,
) -> None:
    """A row's heads of one key head: mixtures of values into columns of `work.narrow`."""
    row, kv_head = item // sizes.n_kv_heads, item % sizes.n_kv_heads
    group = sizes.n_heads // sizes.n_kv_heads
    head, end = kv_head * group, (kv_head + 1) * group
    while head < end:
        n_heads = min(end - head, MOST_HEADS)
        _attend_heads(sizes, window, layer, rows, work, row, kv_head, head, n_heads, scores, shares)
        head += n_heads


@compiled
def _attend_heads(
    sizes: Sizes,
    window: int,
    layer: int,
    rows: Rows,
    work: Work,
    row: int,
    kv_head: int,
    head: int,
    n_heads: int,
    scores: Floats,
    shares: Floats,
) -> None:
    """Some query heads of a row that read the same keys and values."""
    size, capacity, end = sizes.head_size, rows.capacities[row], rows.positions[row] + 1
    begin = max(0, end - window) if window else 0
    block = begin // LANES
    n_blocks = (end - 1) // LANES + 1 - block
    n_kept = sizes.n_kv_heads * capacity * size
    keys = rows.caches[row] + 2 * (2 * n_kept * layer + kv_head * capacity * size)
    values = keys + 2 * n_kept + 2 * LANES * LANES * block
    keys += 2 * LANES * size * block
    width = 4 * scores.shape[1]
    queries = work.wide.ctypes.data + 4 * (row * work.wide.shape[1] + head * size)
    table = scores.ctypes.data
    if n_heads == 1:
        _scores_1(queries, size, keys, n_blocks, table, width)
    elif n_heads == 2:
        _scores_2(queries, size, keys, n_blocks, table, width)
    elif n_heads == 3:
        _scores_3(queries, size, keys, n_blocks, table, width)
    else:
        _scores_4(queries, size, keys, n_blocks, table, width)
    n_positions = end - block * LANES
    for place in range(n_heads):
        line = scores[place, :n_positions]
        line[: begin - block * LANES] = 0
        shares[place] = np.float32(1) / exponentials(line[begin - block * LANES :])
    out = work.narrow.ctypes.data + 4 * (row * work.narrow.shape[1] + head * size)
    for chunk in range(size // LANES):
        part, target = values + 2 * chunk * capacity * LANES, out + 4 * chunk * LANES
        share = shares.ctypes.data
        if n_heads == 1:
            _mixture_1(table, width, part, n_positions, share, target, 4 * size)
        elif n_heads == 2:
            _mixture_2(table, width, part, n_positions, share, target, 4 * size)
        elif n_heads == 3:
            _mixture_3(table, width, part, n_positions, share, target, 4 * size)
        else:
            _mixture_4(table, width, part, n_positions, share, target, 4 * size)

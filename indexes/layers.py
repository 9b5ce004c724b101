"""Impact layers: the postings a second time, small and in the order that fast passes want.

A weight is `level · scale`, level 1..255, nearly: a term's scale makes its greatest weight 255. A
term's postings are cut into blocks of `BLOCK_ROWS` rows, so that the row in a block is 16 bits and
a block's sums stay in a core's cache; and in a block by level into `LAYERS`, the heaviest first,
so that a pass can leave out what matters least (after Lin and Trotman 2015, Anytime Ranking for
Impact-Ordered Indexes, whose layers are the levels themselves).

Files, for a retriever called `name`: `layer_scales`, a term's scale; `layer_counts`
`[terms, layers]`, its postings in each layer; `layer_starts`, where each cell (term, block, layer)
begins, and the end; `layer_rows`, a row's place in its block, ascending in a cell; `layer_levels`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.kernels import BLOCK_ROWS, compiled, is_nothing, sift
from indexes.postings import Postings, file_of, mapped
from indexes.representation import Doubles, Floats

LAYERS = (255, 127, 63)
"""The greatest level of each layer; the least is 1."""

N_LAYERS = len(LAYERS)
_PARTS = ("scales", "counts", "starts", "rows", "levels")


class Layers:
    """One retriever's layers in one segment; arrays are views of mapped files."""

    def __init__(self, folder: Path, name: str) -> None:
        parts = [mapped(file_of(folder, name, f"layer_{part}")) for part in _PARTS]
        self.scales: Floats = parts[0]
        self.counts: NDArray[np.int64] = parts[1]
        self.starts: NDArray[np.int64] = parts[2]
        self.rows: NDArray[np.uint16] = parts[3]
        self.levels: NDArray[np.uint8] = parts[4]


def has_layers(folder: Path, name: str) -> bool:
    """Whether there are layers: not for term frequencies, nor from versions before them."""
    return file_of(folder, name, "layer_levels").exists()


def write_layers(folder: Path, name: str, n_rows: int) -> None:
    """Add the layers to freshly written impacts, all above 0, of `n_rows` passages."""
    postings = Postings(folder, name)
    scales = np.zeros(postings.n_terms, dtype=np.float32)
    if postings.n_terms:
        scales[:] = np.maximum.reduceat(postings.weights, postings.indptr[:-1]) / 255
    # A scale of 0 would make the levels of the smallest numbers there are infinite.
    np.maximum(scales, np.finfo(np.float32).tiny, out=scales)
    starts, rows, levels = _cut(
        postings.indptr, postings.rows, postings.weights, scales, n_blocks(n_rows)
    )
    sizes = np.diff(starts).reshape(postings.n_terms, n_blocks(n_rows), N_LAYERS)
    arrays: list[NDArray[Any]] = [scales, sizes.sum(axis=1), starts, rows, levels]
    for part, array in zip(_PARTS, arrays, strict=True):
        np.save(file_of(folder, name, f"layer_{part}"), array)


def n_blocks(n_rows: int) -> int:
    """Blocks that so many rows make."""
    return -(-n_rows // BLOCK_ROWS)


@compiled
def _level(weight: float, scale: float) -> int:
    """The nearest level: off by at most half a scale, by less than one where 1 is the least."""
    return min(max(int(np.rint(weight / scale)), 1), 255)


@compiled
def _layer(level: int) -> int:
    layer = 0
    while layer + 1 < N_LAYERS and level <= LAYERS[layer + 1]:
        layer += 1
    return layer


@compiled
def _cut(
    indptr: NDArray[np.int64],
    rows: NDArray[np.uint32],
    weights: Floats,
    scales: Floats,
    blocks: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint8]]:
    """Postings → (starts of the cells, rows in their blocks, levels), by counting."""
    per_term = blocks * N_LAYERS
    starts = np.zeros((len(indptr) - 1) * per_term + 1, np.int64)
    found_rows = np.empty(len(rows), np.uint16)
    found_levels = np.empty(len(rows), np.uint8)
    at = 0
    for term in range(len(indptr) - 1):
        cells = np.zeros(per_term, np.int64)
        for posting in range(indptr[term], indptr[term + 1]):
            layer = _layer(_level(weights[posting], scales[term]))
            cells[rows[posting] // BLOCK_ROWS * N_LAYERS + layer] += 1
        for cell in range(per_term):
            starts[term * per_term + cell] = at
            at += cells[cell]
            cells[cell] = starts[term * per_term + cell]
        for posting in range(indptr[term], indptr[term + 1]):
            level = _level(weights[posting], scales[term])
            cell = rows[posting] // BLOCK_ROWS * N_LAYERS + _layer(level)
            found_rows[cells[cell]] = rows[posting] % BLOCK_ROWS
            found_levels[cells[cell]] = level
            cells[cell] += 1
    starts[-1] = at
    return starts, found_rows, found_levels


@compiled
def depths_within(
    numbers: NDArray[np.int64],
    weights: Doubles,
    scales: Floats,
    counts: NDArray[np.int64],
    budget: float,
) -> NDArray[np.int64]:
    """How many layers of each of a query's terms are read, the heaviest first.

    Layers are taken by what they can add to a score at most, until the next one's postings would
    exceed the budget; the first is always taken. A term's layers come in their order.
    """
    depths = np.zeros(len(numbers), np.int64)
    bounds = np.empty(len(numbers) * N_LAYERS, np.float64)
    total = 0
    for place in range(len(bounds)):
        term, layer = numbers[place // N_LAYERS], place % N_LAYERS
        bounds[place] = -abs(weights[place // N_LAYERS]) * scales[term] * LAYERS[layer]
        total += counts[term, layer]
    if total <= budget:
        depths[:] = N_LAYERS
        return depths
    spent = 0
    for place in np.argsort(bounds, kind="mergesort"):
        count = counts[numbers[place // N_LAYERS], place % N_LAYERS]
        if spent and spent + count > budget:
            break
        depths[place // N_LAYERS] += 1
        spent += count
    return depths


STRIDE = 64
"""Sums looked at together: a fixed number, so that the comparison is done with wide registers."""


@compiled
def best_by_level(
    ends: NDArray[np.int64],
    numbers: NDArray[np.int64],
    depths: NDArray[np.int64],
    weights: Doubles,
    scales: Floats,
    starts: NDArray[np.int64],
    rows: NDArray[np.uint16],
    levels: NDArray[np.uint8],
    n_rows: int,
    allowed: NDArray[np.bool_],
    limit: int,
) -> tuple[NDArray[np.int64], Floats]:
    """For each query the allowed rows of largest Σ weight · scale · level: both `[n, limit]`.

    Query q's terms are those before `ends[q]` and not before `ends[q - 1]`. `allowed` of length 0
    allows all. In no order; where fewer rows are met, the rest is row `n_rows`, sum −∞. All
    queries pass over one block before the next: what they share is read from memory once.
    """
    blocks = -(-n_rows // BLOCK_ROWS)
    best_sums = np.full((len(ends), limit), -np.inf, np.float32)
    found = np.full((len(ends), limit), n_rows, np.int64)
    sums = np.empty(BLOCK_ROWS if blocks > 1 else -(-n_rows // STRIDE) * STRIDE, np.float32)
    for block in range(blocks):
        first = 0
        for query in range(len(ends)):
            sums[:] = -0.0  # marks what nothing was added to
            for place in range(first, ends[query]):
                weight = np.float32(weights[place] * scales[numbers[place]])
                cell = (numbers[place] * blocks + block) * N_LAYERS
                # Of slices the compiler knows that no index is negative: a fifth less time.
                held = rows[starts[cell] : starts[cell + depths[place]]]
                level = levels[starts[cell] : starts[cell + depths[place]]]
                for posting in range(len(held)):
                    sums[held[posting]] += weight * level[posting]
            first = ends[query]
            _keep_best(sums, block * BLOCK_ROWS, n_rows, allowed, best_sums[query], found[query])
    return found, best_sums


@compiled
def _keep_best(
    sums: Floats,
    base: int,
    n_rows: int,
    allowed: NDArray[np.bool_],
    heap_scores: Floats,
    heap_rows: NDArray[np.int64],
) -> None:
    """Put the allowed rows of a block, the first of which is `base`, into the heap."""
    strides = sums.reshape(-1, STRIDE)
    for stride in range(len(strides)):
        some, worst = strides[stride], heap_scores[0]
        n_above = np.int32(0)
        for place in range(STRIDE):
            n_above += np.int32(some[place] > worst)
        if n_above == 0:
            continue
        for place in range(STRIDE):
            row = base + stride * STRIDE + place
            score = some[place]
            if row < n_rows and score > heap_scores[0] and not is_nothing(score):
                if len(allowed) and not allowed[row]:
                    continue
                sift(heap_scores, heap_rows, score, row)

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

from indexes.array_file import map_array
from indexes.kernels import BLOCK_ROWS, compiled
from indexes.postings import Postings, file_of
from indexes.representation import Floats

LAYERS = (255, 127, 63)
"""The greatest level of each layer; the least is 1."""

N_LAYERS = len(LAYERS)
_PARTS = ("scales", "counts", "starts", "rows", "levels")


class Layers:
    """One retriever's layers in one segment; arrays are views of mapped files.

    `arrays` are all of them, in the order of their files above.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.arrays = tuple(map_array(file_of(folder, name, f"layer_{part}")) for part in _PARTS)
        self.scales: Floats = self.arrays[0]
        self.counts: NDArray[np.int64] = self.arrays[1]
        self.starts: NDArray[np.int64] = self.arrays[2]
        self.rows: NDArray[np.uint16] = self.arrays[3]
        self.levels: NDArray[np.uint8] = self.arrays[4]


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

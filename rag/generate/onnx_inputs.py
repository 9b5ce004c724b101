"""One run's inputs: the tokens of several sequences in a row, and their table for attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


QUERY_BLOCK = 32
"""onnxruntime's attention goes through a sequence's new tokens in blocks of a multiple of this; a
block of a single token gets another kernel, whose last bits differ."""

LEAST_ROWS = 2
"""Rows that products get at least where bits matter, for the same reason."""


class Piece(NamedTuple):
    """Tokens to append to a sequence that holds `position`; `last_only`: just their last logits."""

    position: int
    token_ids: Sequence[int]
    last_only: bool

    def n_places(self, *, exact: bool) -> int:
        """Places for the tokens; `exact` adds a spare one where a token would be left alone."""
        n_tokens = len(self.token_ids)
        return n_tokens + (exact and n_tokens % QUERY_BLOCK == 1)


class RunInputs(NamedTuple):
    """Tensors by their names in the graph, and which of the run's logits belong to which piece."""

    tensors: dict[str, torch.Tensor]
    n_rows: int
    slices: list[slice]


def run_inputs(pieces: Mapping[int, Piece], n_sequences: int, *, exact: bool) -> RunInputs:
    """Inputs of `rag.models.decoder_graph`, where piece i is the i-th of `n_sequences`.

    The others wait. `exact`: a token's logits do not depend on how many are fed with it. A spare
    place repeats the last token; what is written for it lies behind the end and is overwritten.
    """
    import torch

    n_places = max(piece.n_places(exact=exact) for piece in pieces.values())
    token_ids: list[int] = []
    rows: list[int] = []
    taken: list[int] = []
    slices: list[slice] = []
    places = [[0] * n_places for _ in range(n_sequences)]
    n_new, last_positions = [0] * n_sequences, [0] * n_sequences
    for index, piece in pieces.items():
        n_tokens, first = len(piece.token_ids), len(token_ids)
        filled = piece.n_places(exact=exact)
        places[index][:n_tokens] = range(first, first + n_tokens)
        places[index][n_tokens:filled] = [first + n_tokens - 1] * (filled - n_tokens)
        taken += range(index * n_places, index * n_places + n_tokens)
        n_new[index] = filled
        last_positions[index] = piece.position + filled - 1
        wanted = range(first + n_tokens - 1 if piece.last_only else first, first + n_tokens)
        slices.append(slice(len(rows), len(rows) + len(wanted)))
        rows += wanted
        token_ids += piece.token_ids
    if exact and len(token_ids) < LEAST_ROWS:
        # Nobody takes the second row from the table, nor the second row of logits.
        token_ids, taken = token_ids * LEAST_ROWS, taken * LEAST_ROWS
    if exact and len(rows) < LEAST_ROWS:
        rows = rows * LEAST_ROWS
    tensors = {
        "token_ids": torch.tensor(token_ids),
        "places": torch.tensor(places),
        "taken": torch.tensor(taken),
        "n_new": torch.tensor(n_new, dtype=torch.int32),
        "last_positions": torch.tensor(last_positions, dtype=torch.int32),
        "n_cached": torch.tensor(max(n_places, 1 + max(last_positions)), dtype=torch.int32),
        "rows": torch.tensor(rows),
    }
    return RunInputs(tensors, len(rows), slices)

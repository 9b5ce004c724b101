"""Inputs of a run against their meaning, place by place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rag.generate.onnx_inputs import LEAST_ROWS, QUERY_BLOCK, Piece, run_inputs

PIECE = st.builds(
    Piece,
    st.integers(0, 50),
    st.lists(st.integers(0, 9), min_size=1, max_size=2 * QUERY_BLOCK + 2),
    st.booleans(),
)


@given(
    pieces=st.dictionaries(st.integers(0, 4), PIECE, min_size=1, max_size=5),
    n_spare=st.integers(0, 2),
    exact=st.booleans(),
)
def test_every_token_stands_at_its_place(
    pieces: dict[int, Piece], n_spare: int, exact: bool
) -> None:
    n_sequences = 1 + max(pieces) + n_spare
    inputs = run_inputs(pieces, n_sequences, exact=exact)
    tensors = inputs.tensors
    table = tensors["token_ids"][tensors["places"]]
    assert table.shape[0] == n_sequences
    assert tensors["n_cached"] >= table.shape[1]
    row = 0
    for index, piece in pieces.items():
        n_tokens, n_new = len(piece.token_ids), int(tensors["n_new"][index])
        assert table[index, :n_tokens].tolist() == list(piece.token_ids)
        assert set(table[index, n_tokens:n_new].tolist()) <= {piece.token_ids[-1]}
        assert n_tokens <= n_new <= n_tokens + exact
        assert not exact or n_new % QUERY_BLOCK != 1
        assert int(tensors["last_positions"][index]) == piece.position + n_new - 1
        assert tensors["n_cached"] > tensors["last_positions"][index]
        taken = tensors["taken"][row : row + n_tokens]
        assert torch.equal(taken, index * table.shape[1] + torch.arange(n_tokens))
        row += n_tokens
    assert max(row, LEAST_ROWS if exact else 1) == len(tensors["token_ids"])
    waiting = [index for index in range(n_sequences) if index not in pieces]
    assert not tensors["n_new"][waiting].any()
    wanted = tensors["rows"]
    assert inputs.n_rows == len(wanted) >= (LEAST_ROWS if exact else 1)
    for (_, piece), rows in zip(pieces.items(), inputs.slices, strict=True):
        ids = tensors["token_ids"][wanted[rows]].tolist()
        assert ids == list(piece.token_ids[-1:] if piece.last_only else piece.token_ids)


@pytest.mark.parametrize(("n_tokens", "n_places"), [(1, 2), (2, 2), (32, 32), (33, 34), (65, 66)])
def test_no_token_is_left_alone(n_tokens: int, n_places: int) -> None:
    piece = Piece(0, [1] * n_tokens, last_only=True)
    assert piece.n_places(exact=True) == n_places
    assert piece.n_places(exact=False) == n_tokens

"""Constraint states: rollback is truncation, and what was allowed is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_models import Ban, NoRepeat

from rag.generate.constraint import ConstraintTrack

N_TOKENS = 6


@given(st.lists(st.tuples(st.integers(0, N_TOKENS - 1), st.integers(0, 4)), max_size=25))
def test_after_any_rollbacks_the_states_are_those_of_a_replay(steps: list[tuple[int, int]]) -> None:
    constraints = (NoRepeat(N_TOKENS), Ban(N_TOKENS, 4))
    track, kept = ConstraintTrack(constraints, [2]), list[int]()
    for token, n_back in steps:
        if track.allows(token):
            track.push(token)
            kept.append(token)
        if n_back < 3:
            kept = kept[: max(0, len(kept) - n_back)]
            track.truncate(len(kept))
        replay = ConstraintTrack(constraints, [2])
        for again in kept:
            replay.push(again)
        assert track.n_tokens == replay.n_tokens == len(kept)
        for position in range(len(kept) + 1):
            assert torch.equal(track.keep(position), replay.keep(position))


def test_nothing_to_keep_without_constraints() -> None:
    track = ConstraintTrack((), [1])
    track.push(3)
    assert track.keep(1) is None
    assert track.allows(5)


def test_masks_are_computed_once_a_position() -> None:
    class Counting(Ban):
        n_asked = 0

        def keep(self, state: None) -> torch.Tensor:
            self.n_asked += 1
            return super().keep(state)

    counting = Counting(N_TOKENS, 1)
    track = ConstraintTrack([counting], [0])
    for _ in range(3):
        track.keep(0)
    assert counting.n_asked == 1
    track.push(2)
    track.keep(1)
    track.truncate(0)
    track.push(3)
    track.keep(1)
    assert counting.n_asked == 3


def test_a_constraint_that_allows_all_costs_no_mask() -> None:
    class Free(Ban):
        def keep(self, state: None) -> None:
            return None

        def start(self, prompt_ids: Sequence[int]) -> None:
            return None

    assert ConstraintTrack([Free(N_TOKENS, 0)], [0]).keep(0) is None
    assert ConstraintTrack([Free(N_TOKENS, 0), Ban(N_TOKENS, 2)], [0]).keep(0).tolist() == [
        True, True, False, True, True, True,
    ]  # fmt: skip

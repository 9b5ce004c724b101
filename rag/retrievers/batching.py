"""Batches without padding waste: texts of like length together, a fixed budget of tokens each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def token_batches(lengths: Sequence[int], budget_tokens: int) -> Iterator[list[int]]:
    """Positions of texts, longest first, cut so that rows × longest row ≤ the budget.

    Longest first means that the largest batch comes first: if memory runs out it does so at once.
    A text longer than the budget makes a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    batch: list[int] = []
    for position in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Share of computed tokens that are padding: 0 is none."""
    computed = sum(len(batch) * max(lengths[p] for p in batch) for batch in batches)
    return 1 - sum(lengths) / computed if computed else 0.0

"""Batches without padding waste: texts of like length together, a fixed budget of tokens each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def token_batches(
    lengths: Sequence[int], budget_tokens: int, max_rows: int | None = None
) -> Iterator[list[int]]:
    """Positions of texts, longest first, cut so that rows × longest row ≤ the budget.

    `max_rows` bounds the rows too, for models whose output is wide.

    Longest first means that the largest batch comes first: if memory runs out it does so at once.
    A text longer than the budget makes a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    batch: list[int] = []
    for position in order:
        full = (len(batch) + 1) * max(1, lengths[batch[0]]) > budget_tokens if batch else False
        if full or len(batch) == max_rows:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Share of computed tokens that are padding: 0 is none."""
    computed = sum(len(batch) * max(lengths[p] for p in batch) for batch in batches)
    return 1 - sum(lengths) / computed if computed else 0.0

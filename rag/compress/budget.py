"""How many words fit: the generator's own tokens are counted, of the very text that is kept.

What a word costs depends on its neighbours, so costs are not added up: the text is put together
and counted, some four times, with the number of words chosen by interpolation in between.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

PROMISE = 0.02
"""A budget is met within this part of it, as far as whole words allow."""

MAX_TRIES = 16
"""So many words, next in the order, are tried one by one to fill what is left."""

SLACK = 0.005
"""Within this part of the budget below it the search ends: a fourth of the promise."""


def fit(n_words: int, count: Callable[[int], int], budget: int, n_tokens: int) -> int:
    """The number k of words, best first, whose text has at most `budget` tokens, and hardly less.

    `count(k)` is the tokens with k words and hardly falls as k grows; `n_tokens` is its value for
    all of them. Where it never falls, k + 1 words are too many, unless k words leave less than
    `SLACK` of the budget free.
    """
    if n_tokens <= budget:
        return n_words
    low, low_tokens = 0, 0
    high, high_tokens = n_words, n_tokens
    enough = budget - SLACK * budget
    halve = False
    while high - low > 1 and low_tokens < enough:
        middle = (low + high) // 2
        if not halve and high_tokens > low_tokens:
            share = (budget - low_tokens) / (high_tokens - low_tokens)
            middle = min(max(low + round(share * (high - low)), low + 1), high - 1)
        tokens = count(middle)
        # After a guess that took off less than half, the next one halves: never slow.
        before = high - low
        if tokens <= budget:
            low, low_tokens = middle, tokens
        else:
            high, high_tokens = middle, tokens
        halve = not halve and 2 * (high - low) > before
    return low


def fill(
    order: NDArray[np.int64],
    n_words: int,
    count: Callable[[NDArray[np.int64]], int],
    budget: int,
) -> NDArray[np.int64]:
    """The first `n_words` of the order, and later ones where the next is too large to fit."""
    chosen = order[:n_words]
    left = order[n_words + 1 : n_words + 1 + MAX_TRIES]
    if not len(left) or count(chosen) >= (1 - PROMISE) * budget:
        return chosen
    for number in left:
        more = np.append(chosen, number)
        tokens = count(more)
        if tokens <= budget:
            chosen = more
        if (1 - PROMISE) * budget <= tokens <= budget:
            break
    return chosen

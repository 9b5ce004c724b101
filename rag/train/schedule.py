"""The learning rate over time."""

from __future__ import annotations

import math

from rag.train.recipe import LoopConfig


def learning_rate(config: LoopConfig, step: int) -> float:
    """Learning rate of update `step`, counted from 0: it rises linearly, then falls to 0.

    The fall is linear, or half a cosine (Loshchilov and Hutter 2017, equation 5, one period), or
    none.
    """
    n_rising = round(config.warm_up * config.n_steps)
    if step < n_rising:
        return config.learning_rate * (step + 1) / n_rising
    gone = (step - n_rising) / max(config.n_steps - n_rising, 1)
    if config.schedule == "linear":
        return config.learning_rate * (1 - gone)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * gone))
    return config.learning_rate

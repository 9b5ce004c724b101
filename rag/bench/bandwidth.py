"""How fast memory can be read here: the floor under decoding one token at a time."""

from __future__ import annotations

import time

READ_BYTES = 512_000_000
ROUNDS = 7


def read_bytes_per_s() -> float:
    """Bytes a second of summing an array far larger than any cache, all threads; best of rounds."""
    import torch

    memory = torch.ones(READ_BYTES // 8, dtype=torch.float64)
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        memory.sum()
        best = min(best, time.perf_counter() - started)
    return float(memory.nbytes) / best

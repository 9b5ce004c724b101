"""What a decoder computes row by row: embedding, norms, rounding, exponentials, gates, rotation."""

from __future__ import annotations

import numba
import numpy as np

from rag.models.decoder_arrays import UNIT, Floats, Weights, Work
from rag.models.decoder_code import LANES, compiled

_SUMS = {"reassoc", "nnan", "nsz"}
"""Vector lanes may sum parts; which parts does not depend on anything but the width."""


@compiled
def embed(weights: Weights, token_id: int, out: Floats) -> None:
    """A token's row of the embedding."""
    codes, scales = weights.embedding_codes[token_id], weights.embedding_scales[token_id]
    for block in range(len(scales)):
        for place in range(codes.shape[1]):
            out[block * codes.shape[1] + place] = (
                np.float32(codes[block, place]) - np.float32(128)
            ) * scales[block]


@compiled
def add(total: Floats, addend: Floats) -> None:
    """Add in place."""
    for place in range(len(total)):
        total[place] += addend[place]


@numba.njit(nogil=True, fastmath=_SUMS)  # type: ignore[untyped-decorator]
def _mean_square(x: Floats) -> np.float32:
    total = np.float32(0)
    for place in range(len(x)):
        total += x[place] * x[place]
    total /= np.float32(len(x))
    return total


@numba.njit(nogil=True, fastmath=_SUMS)  # type: ignore[untyped-decorator]
def _sum(x: Floats) -> np.float32:
    total = np.float32(0)
    for place in range(len(x)):
        total += x[place]
    return total


@numba.njit(nogil=True, fastmath=_SUMS)  # type: ignore[untyped-decorator]
def _largest(x: Floats) -> np.float32:
    most = x[0]
    for place in range(len(x)):
        most = max(most, x[place])
    return most  # type: ignore[no-any-return]


@numba.njit(nogil=True, fastmath=_SUMS)  # type: ignore[untyped-decorator]
def _largest_magnitude(x: Floats) -> np.float32:
    most = np.float32(0)
    for place in range(len(x)):
        most = max(most, abs(x[place]))
    return most


@compiled
def norm_and_round(work: Work, source: Floats, row: int, gamma: Floats, epsilon: float) -> None:
    """RMS norm of a row, then its codes (`_round`)."""
    x, normed = source[row], work.narrow[row][: len(gamma)]
    scale = np.float32(1) / np.sqrt(_mean_square(x) + np.float32(epsilon))
    for place in range(len(gamma)):
        normed[place] = x[place] * scale * gamma[place]
    round_row(work, row, normed)


@compiled
def round_row(work: Work, row: int, x: Floats) -> None:
    """A row's codes of 16 bits and the step that they count."""
    most_levels = np.float32(min(32767, (2**31 - 1) // (127 * len(x))))
    largest = _largest_magnitude(x)
    per_unit = most_levels / largest if largest > 0 else np.float32(0)
    levels = work.levels[row]
    for place in range(len(x)):
        levels[place] = np.int16(np.floor(x[place] * per_unit + np.float32(0.5)))
    work.steps[row] = largest / most_levels


@compiled
def exponentials(x: Floats) -> np.float32:
    """`x` becomes exp(x - max x); their sum."""
    most = _largest(x)
    for place in range(len(x)):
        x[place] -= most
    exponentiate(x)
    total: np.float32 = _sum(x)
    return total


@compiled
def exponentiate(x: Floats) -> None:
    """Exp in place, to two units in the last place: 2**whole times a polynomial of the rest."""
    bits = np.empty(len(x), np.int32)
    powers = bits.view(np.float32)
    for place in range(len(x)):
        scaled = min(max(x[place] * np.float32(1.44269504), np.float32(-126)), np.float32(126))
        whole = np.floor(scaled + np.float32(0.5))
        rest = scaled - whole
        bits[place] = (np.int32(whole) + 127) << 23
        total = np.float32(1.540353039e-4)
        total = total * rest + np.float32(1.333355814e-3)
        total = total * rest + np.float32(9.618129107e-3)
        total = total * rest + np.float32(5.550410866e-2)
        total = total * rest + np.float32(2.402265069e-1)
        total = total * rest + np.float32(6.931471806e-1)
        x[place] = total * rest + np.float32(1)
    for place in range(len(x)):
        x[place] *= powers[place]


@compiled
def gate(gate_up: Floats, out: Floats, first: int, last: int) -> None:
    """SiLU of the gate times the upper projection, for outputs `first:last`; tiles take turns."""
    for start in range(first, last, LANES):
        gates, found = gate_up[UNIT * start :][:LANES], out[start:][:LANES]
        for lane in range(LANES):
            found[lane] = -gates[lane]
    exponentiate(out[first:last])
    for start in range(first, last, LANES):
        gates, ups = gate_up[UNIT * start :][:LANES], gate_up[UNIT * start + LANES :][:LANES]
        found = out[start:][:LANES]
        for lane in range(LANES):
            found[lane] = gates[lane] / (np.float32(1) + found[lane]) * ups[lane]


@compiled
def turn(x: Floats, cosines: Floats, sines: Floats, scale: np.float32) -> None:
    """Rotate a head's halves by their position's angles, times `scale`."""
    half = len(cosines)
    for place in range(half):
        first, second = x[place] * scale, x[half + place] * scale
        x[place] = first * cosines[place] - second * sines[place]
        x[half + place] = second * cosines[place] + first * sines[place]

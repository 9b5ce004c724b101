"""What layers do to single rows of float32 between their products, compiled to vector code."""

from __future__ import annotations

from typing import Any

import numpy as np

from rag.models.fixed_point import LARGEST, LENGTH, Floats, Shorts
from rag.models.vector_code import compiled, larger, power_of_two

# Coefficients, highest power first; globals are constants to the compiler. (Φ(x) - 1/2) / x is a
# polynomial of x² - 81/8, |x| <= 9/2, such that x · Φ(x) is within 8e-6; a quotient of shorter ones
# would be closer, but divides. 2^x, |x| <= 1/2, is within 4e-6.
_P9, _P8, _P7, _P6, _P5, _P4, _P3, _P2, _P1, _P0 = (
    np.float32(value)
    for value in (
        -1.400074120e-12,
        4.214921339e-11,
        -6.126228321e-10,
        9.412118211e-09,
        -1.706564757e-07,
        2.723640146e-06,
        -3.882169413e-05,
        5.333026132e-04,
        -7.623048924e-03,
        1.569053007e-01,
    )
)
_T4, _T3, _T2, _T1, _T0 = (
    np.float32(value)
    for value in (
        9.570247432e-03,
        5.597135799e-02,
        2.402524454e-01,
        6.931132973e-01,
        9.999987971e-01,
    )
)
_ONE, _HALF = np.float32(1), np.float32(0.5)
_MOST, _MIDDLE = np.float32(4.5), np.float32(10.125)
_LEAST = np.float32(-126)


@compiled
def add_and_norm(row: Floats, residual: Floats, norm: Floats, eps: float) -> None:
    """Write LayerNorm(row + residual) to row; `norm` is its weight and bias."""
    width = np.float32(len(row))
    total = np.float32(0)
    for place in range(len(row)):
        row[place] += residual[place]
        total += row[place]
    mean = total / width
    squares = np.float32(0)
    for place in range(len(row)):
        off = row[place] - mean
        squares += off * off
    factor = _ONE / np.sqrt(squares / width + np.float32(eps))
    for place in range(len(row)):
        row[place] = (row[place] - mean) * factor * norm[0, place] + norm[1, place]


@compiled
def gelu(row: Floats) -> None:
    """Make x to x · Φ(x), in place."""
    for place in range(len(row)):
        x = -larger(-larger(row[place], -_MOST), -_MOST)
        s = x * x - _MIDDLE
        # Odd and even powers apart: two short chains of operations that need not wait.
        t = s * s
        odd = (((_P9 * t + _P7) * t + _P5) * t + _P3) * t + _P1
        even = (((_P8 * t + _P6) * t + _P4) * t + _P2) * t + _P0
        row[place] *= _HALF + x * (odd * s + even)


@compiled
def fix_softmax(scores: Floats, numbers: Shorts) -> Any:
    """Write 2^(scores - largest) as 16-bit numbers; their scale makes them sum to 1."""
    largest = scores[0]
    for place in range(len(scores)):
        largest = larger(largest, scores[place])
    total = squares = np.float32(0)
    for place in range(len(scores)):
        x = larger(scores[place] - largest, _LEAST)
        whole = np.rint(x)
        x -= whole
        part = (((_T4 * x + _T3) * x + _T2) * x + _T1) * x + _T0
        value = part * power_of_two(whole)
        total += value
        squares += value * value
        scores[place] = value
    scale = larger(np.sqrt(squares) / LENGTH, _ONE / LARGEST)
    inverse = _ONE / scale
    for place in range(len(scores)):
        numbers[place] = np.int32(np.rint(scores[place] * inverse))
    return scale / total

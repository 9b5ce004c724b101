"""What layers do to single rows of float32 between their products, compiled to vector code."""

from __future__ import annotations

from typing import Any

import numpy as np

from rag.models.fixed_point import LARGEST, LENGTH, Floats, Shorts
from rag.models.vector_code import compiled, larger, power_of_two

# Coefficients, highest power first; globals are constants to the compiler. The error function is a
# quotient of polynomials, Eigen's (`generic_fast_erf_float`); 2^x, |x| <= 1/2, is within 4e-6.
_E6, _E5, _E4, _E3, _E2, _E1, _E0 = (
    np.float32(value)
    for value in (
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    )
)
_F4, _F3, _F2, _F1, _F0 = (
    np.float32(value)
    for value in (
        -1.45660718464996e-05,
        -2.13374055278905e-04,
        -1.68282697438203e-03,
        -7.37332916720468e-03,
        -1.42647390514189e-02,
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
_ONE, _HALF, _FOUR = np.float32(1), np.float32(0.5), np.float32(4)
_ROOT_HALF = np.float32(0.70710678118654752)
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
        x = -larger(-larger(row[place] * _ROOT_HALF, -_FOUR), -_FOUR)
        s = x * x
        p = (((((_E6 * s + _E5) * s + _E4) * s + _E3) * s + _E2) * s + _E1) * s + _E0
        q = (((_F4 * s + _F3) * s + _F2) * s + _F1) * s + _F0
        row[place] *= _HALF * (_ONE + x * p / q)


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

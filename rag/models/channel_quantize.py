"""Weights in 8 bits with one scale an output channel, for products of whole numbers."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

LARGEST_CODE = 127
"""Codes are symmetric: -127 to 127."""

Floats = npt.NDArray[np.float32]


class ChannelMatrix(msgspec.Struct, frozen=True):
    """`weights[o, i] = codes[o, i] * scales[o]`; int8 `[n_out, n_in]`, float32 `[n_out]`."""

    codes: npt.NDArray[np.int8]
    scales: Floats


def quantize_channels(weights: Floats) -> ChannelMatrix:
    """The nearest of 255 evenly spaced values of each output channel; `weights` `[n_out, n_in]`."""
    scales = np.abs(weights).max(axis=1) / np.float32(LARGEST_CODE)
    steps = np.where(scales > 0, scales, np.float32(1))
    codes = np.rint(weights / steps[:, None]).astype(np.int8)
    return ChannelMatrix(codes, scales)

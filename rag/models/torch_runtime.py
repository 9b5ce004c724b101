"""What is process-wide in torch and transformers: threads, bars, verbosity. Touched here only."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal

Rounding = Literal["int16", "int8"]
"""Fixed point of 16 bits (`rag.models.fixed_point`) or of bytes (`rag.models.byte_point`)."""

Precision = Literal["float32", "bfloat16", "int16", "int8"]
"""What products are computed in. Fixed point is for encoders alone, and on CPUs with AVX2;
elsewhere it is float32."""

_ROUNDING: ContextVar[Rounding | None] = ContextVar("fixed point", default=None)

_LOADING = threading.Lock()
"""One load at a time changes these settings, and puts them back."""


def use_threads(n_threads: int) -> None:
    """Let torch compute with this many threads; 0 leaves as many as there are cores."""
    import torch

    if n_threads:
        torch.set_num_threads(n_threads)


@contextmanager
def threads_here(n_threads: int) -> Iterator[None]:
    """Let tensor operations that this thread calls share among so many; other threads' stay.

    The steps of decoding are operations on one row of a vocabulary: handing half of it to another
    core takes longer than the row, and far longer where that core is busy.
    """
    pools = _openmp()
    before = [pool.num_threads for pool in pools]
    for pool in pools:
        pool.set_num_threads(n_threads)
    try:
        yield
    finally:
        for pool, n_before in zip(pools, before, strict=True):
            pool.set_num_threads(n_before)


@cache
def _openmp() -> list[Any]:
    """The OpenMP libraries that torch brought; their thread counts are per calling thread."""
    import torch  # noqa: F401 - to find what it loads
    from threadpoolctl import ThreadpoolController

    found: list[Any] = ThreadpoolController().select(user_api="openmp").lib_controllers
    return found


def computing_in(precision: Precision, device: Any) -> AbstractContextManager[Any]:
    """A context in which products are computed in this precision; weights stay as they are."""
    import torch

    if precision == "float32":
        return nullcontext()
    if precision in ("int16", "int8"):
        return _in_fixed_point(precision)
    casting: AbstractContextManager[Any] = torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16
    )
    return casting


@contextmanager
def _in_fixed_point(rounding: Rounding) -> Iterator[None]:
    before = _ROUNDING.set(rounding)
    try:
        yield
    finally:
        _ROUNDING.reset(before)


def rounding_wanted() -> Rounding | None:
    """What the innermost `computing_in` around this says, if it is of fixed point."""
    return _ROUNDING.get()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and notes off the terminal: progress is told by the caller."""
    from transformers.utils import logging

    with _LOADING:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            # One bar in the GGUF reader knows no switch: it writes to sys.stderr come what may.
            with redirect_stderr(io.StringIO()):
                yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def fast_casting(device: Any) -> AbstractContextManager[Any]:
    """Half precision where this device computes it faster than single; else nothing."""
    return computing_in(fast_precision(device), device)


def fast_precision(device: Any) -> Precision:
    """What torch computes fastest on this device.

    On a CPU that is bfloat16 with the instructions for it (AVX-512 BF16 or AMX).
    """
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        able = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        able = kind == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if able else "float32"


def inference_precision(device: Any) -> Precision:
    """What our own encoders compute fastest in on this device.

    On a CPU that is fixed point, where `rag.models.fixed_point` has instructions for it, but for
    processors with tiles of bfloat16 (AMX).
    """
    import torch

    if torch.device(device).type != "cpu":
        return fast_precision(device)
    from rag.models.vector_code import multiplies_shorts

    if torch.cpu._is_amx_tile_supported():
        return "bfloat16"
    return "int16" if multiplies_shorts() else fast_precision(device)

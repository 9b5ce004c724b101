"""Thread counts that are one thread's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rag.models.torch_runtime import threads_here


def test_threads_of_one_thread() -> None:
    """Inside, this thread's operations have one core; another thread's have as many as before."""
    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(torch.get_num_threads).result()
        with threads_here(1):
            assert torch.get_num_threads() == 1
            with threads_here(3):
                assert torch.get_num_threads() == 3
            assert torch.get_num_threads() == 1
            assert pool.submit(torch.get_num_threads).result() == others
    assert torch.get_num_threads() == before


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="no"), threads_here(before + 1):
        raise ValueError("no")
    assert torch.get_num_threads() == before

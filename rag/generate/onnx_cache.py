"""Keys and values of one sequence, in buffers that grow and that onnxruntime writes in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rag.models.decoder_shape import DecoderShape

if TYPE_CHECKING:
    import torch

FIRST_CAPACITY = 256
"""Tokens there is room for at the start; each time that is too few, twice as many."""


class KeyValueCache:
    """Two float32 tensors a layer, `[1, n_kv_heads, capacity, head_size]`.

    The same memory is bound as a run's input and output, so a step copies nothing of the past
    (`GroupQueryAttention`'s shared buffer). The owner knows how many tokens count.
    """

    def __init__(self, shape: DecoderShape, capacity: int = FIRST_CAPACITY) -> None:
        self._shape = shape
        self._capacity = 0
        self._tensors: list[torch.Tensor] = []
        self.reserve(capacity, keep=0)

    @property
    def n_bytes(self) -> int:
        """Memory that the buffers take."""
        return sum(tensor.nbytes for tensor in self._tensors)

    def reserve(self, n_tokens: int, *, keep: int) -> bool:
        """Make room for `n_tokens`, keeping the first `keep`; whether the buffers are new ones."""
        import torch

        if n_tokens <= self._capacity:
            return False
        self._capacity = min(capacity_for(n_tokens), self._shape.context_length)
        size = (1, self._shape.n_kv_heads, self._capacity, self._shape.head_size)
        grown = [torch.empty(size) for _ in range(2 * self._shape.n_layers)]
        for old, new in zip(self._tensors, grown, strict=False):
            new[:, :, :keep] = old[:, :, :keep]
        self._tensors = grown
        return True

    def copy(self, n_tokens: int) -> KeyValueCache:
        """A cache of its own that holds the first `n_tokens`."""
        other = KeyValueCache(self._shape, max(n_tokens, 1))
        for old, new in zip(self._tensors, other._tensors, strict=True):
            new[:, :, :n_tokens] = old[:, :, :n_tokens]
        return other

    def bind(self, binding: Any) -> None:
        """Bind each buffer as the past that a run reads and the present that it writes."""
        for layer in range(self._shape.n_layers):
            for kind, tensor in zip(
                ("keys", "values"), self._tensors[2 * layer : 2 * layer + 2], strict=True
            ):
                bind_input(binding, f"{kind}.{layer}", tensor)
                bind_output(binding, f"new_{kind}.{layer}", tensor)


def capacity_for(n_tokens: int) -> int:
    """The smallest of 256, 512, 1024, ... that is enough."""
    return max(FIRST_CAPACITY, 1 << (n_tokens - 1).bit_length())


def bind_input(binding: Any, name: str, tensor: torch.Tensor) -> None:
    """Let a run read the tensor's memory, which the caller keeps alive."""
    binding.bind_input(name, *_place(tensor))


def bind_output(binding: Any, name: str, tensor: torch.Tensor) -> None:
    """Let a run write into the tensor's memory, which the caller keeps alive."""
    binding.bind_output(name, *_place(tensor))


def _place(tensor: torch.Tensor) -> tuple[str, int, Any, list[int], int]:
    import numpy as np
    import torch

    kind = {torch.float32: np.float32, torch.int64: np.int64, torch.int32: np.int32}[tensor.dtype]
    return "cpu", 0, kind, list(tensor.shape), tensor.data_ptr()

"""Keys and values of sequences, in buffers that grow and that onnxruntime writes in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rag.models.decoder_graph import SPARE_TOKENS
from rag.models.decoder_shape import DecoderShape

if TYPE_CHECKING:
    import torch

FIRST_CAPACITY = 256
"""Tokens there is room for at the start; each time that is too few, twice as many."""


class KeyValueCache:
    """Two float32 tensors a layer, `[n_rows, n_kv_heads, capacity, head_size]`, a sequence a row.

    The same memory is bound as a run's input and output, so a step copies nothing of the past
    (`GroupQueryAttention`'s shared buffer). The owner knows how many tokens of a row count.
    """

    def __init__(
        self, shape: DecoderShape, capacity: int = FIRST_CAPACITY, *, n_rows: int = 1
    ) -> None:
        import torch

        self._shape = shape
        self.n_rows = n_rows
        self.capacity = capacity_for(capacity, shape.context_length)
        size = (n_rows, shape.n_kv_heads, self.capacity, shape.head_size)
        # Memory that nobody writes to is not taken either: rows that wait cost nothing.
        self.tensors = [torch.empty(size) for _ in range(2 * shape.n_layers)]

    @property
    def n_bytes(self) -> int:
        """Memory that the buffers may take."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def grown(self, n_tokens: int, rows: Iterable[int]) -> KeyValueCache:
        """As many rows with room for `n_tokens`; of `rows` all that is here is there."""
        other = KeyValueCache(self._shape, n_tokens, n_rows=self.n_rows)
        for row in rows:
            other.write(row, self, row, self.capacity)
        return other

    def write(self, row: int, source: KeyValueCache, source_row: int, n_tokens: int) -> None:
        """Copy the first `n_tokens` of a row of `source` to the beginning of a row of this one."""
        for old, new in zip(source.tensors, self.tensors, strict=True):
            new[row, :, :n_tokens] = old[source_row, :, :n_tokens]

    def copy(self, row: int, n_tokens: int) -> KeyValueCache:
        """A cache of its own that holds the first `n_tokens` of one row."""
        other = KeyValueCache(self._shape, max(n_tokens, 1))
        other.write(0, self, row, n_tokens)
        return other

    def bind(self, binding: Any, rows: slice = slice(None)) -> None:
        """Bind each buffer's rows as the past that a run reads and the present that it writes."""
        for layer in range(self._shape.n_layers):
            for kind, tensor in zip(
                ("keys", "values"), self.tensors[2 * layer : 2 * layer + 2], strict=True
            ):
                bind_input(binding, f"{kind}.{layer}", tensor[rows])
                bind_output(binding, f"new_{kind}.{layer}", tensor[rows])


def capacity_for(n_tokens: int, context_length: int) -> int:
    """The smallest of 256, 512, 1024, ... that is enough, or the context's end with its spares."""
    doubled = max(FIRST_CAPACITY, 1 << (n_tokens - 1).bit_length())
    return max(n_tokens, min(doubled, context_length + SPARE_TOKENS))


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

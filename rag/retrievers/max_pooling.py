"""SPLADE's pooling without the block of logits: vocabulary weights straight from hidden states.

    w_j = max_i f(h_i · e_j + b_j),  f = log(1 + relu(·))   (SPLADE v2, Formal et al. 2021)

f never falls, so the maximum over positions is taken first and f once on `[n, V]`; b_j does not
depend on the position, so it is added after the maximum. Texts lie end to end, without padding,
and the product is made for a few of them and a slice of the vocabulary at a time: the block
`[positions, V]` never exists, and a slice is still in the processor's cache when it is pooled.
What is left is the product itself, 2 · positions · V · d operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import torch

Pooling = Literal["max", "sum"]
Activation = Literal["relu", "log1p_relu"]
"""f without its outermost logarithm, as sentence-transformers names it: `log1p_relu` is
log(1 + log(1 + relu(·))), the activation of opensearch's inference-free models, version 3."""

SLICE_ELEMENTS = 1 << 18
"""Products that exist at a time on a CPU: 1 MiB in float32."""

SLICE_ELEMENTS_GPU = 1 << 26

BLOCK_POSITIONS = 256
"""Positions multiplied at a time, more only where one text has more."""


class Run(msgspec.Struct, frozen=True):
    """`many` texts of one `length`, end to end; `first` is the number of the first."""

    first: int
    many: int
    length: int


def pool(
    hidden: torch.Tensor,
    lengths: Sequence[int],
    embeddings: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    pooling: Pooling = "max",
    activation: Activation = "relu",
) -> torch.Tensor:
    """Vocabulary weights `[n, V]`, none negative, of n texts whose hidden states lie end to end.

    `hidden` is `[sum(lengths), d]`, each length at least 1; `embeddings` is the output projection
    `[V, d]`, `bias` `[V]`.
    """
    if pooling == "sum":

        def weigh(logits: torch.Tensor, columns: slice) -> None:
            activate(logits if bias is None else logits.add_(bias[columns]), activation)

        return _reduced(hidden, lengths, embeddings, "sum", weigh)
    pooled = greatest(hidden, lengths, embeddings)
    if bias is not None:
        pooled += bias
    return activate(pooled, activation)


def greatest(
    hidden: torch.Tensor, lengths: Sequence[int], embeddings: torch.Tensor
) -> torch.Tensor:
    """Each row's greatest product with any position of a text, `[n, V]`.

    Bytes (int8, both) give exact sums in int32.
    """
    return _reduced(hidden, lengths, embeddings, "max", None)


def activate(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """log(1 + relu(·)), or the logarithm twice, in place."""
    weights = logits.relu_().log1p_()
    return weights.log1p_() if activation == "log1p_relu" else weights


def _reduced(
    hidden: torch.Tensor,
    lengths: Sequence[int],
    embeddings: torch.Tensor,
    pooling: Pooling,
    weigh: Callable[[torch.Tensor, slice], None] | None,
) -> torch.Tensor:
    """The products' maxima or sums over each text's positions; `weigh` changes products before."""
    import torch

    kind = torch.int32 if hidden.dtype == torch.int8 else hidden.dtype
    pooled = hidden.new_empty((len(lengths), len(embeddings)), dtype=kind)
    elements = SLICE_ELEMENTS if hidden.device.type == "cpu" else SLICE_ELEMENTS_GPU
    start = 0
    for runs in _blocks(lengths):
        n_positions = sum(run.many * run.length for run in runs)
        block = hidden[start : start + n_positions]
        step = min(len(embeddings), max(64, elements // n_positions))
        memory = pooled.new_empty(n_positions * step)
        for left in range(0, len(embeddings), step):
            part = embeddings[left : left + step]
            columns = slice(left, left + len(part))
            logits = memory[: n_positions * len(part)].view(n_positions, len(part))
            _multiply(block, part, logits)
            if weigh is not None:
                weigh(logits, columns)
            _pool_block(logits, runs, pooled[:, columns], pooling)
        start += n_positions
    return pooled


def _multiply(block: torch.Tensor, part: torch.Tensor, out: torch.Tensor) -> None:
    import torch

    if block.dtype == torch.int8:
        torch._int_mm(block, part.t(), out=out)
    else:
        torch.mm(block, part.t(), out=out)


def _pool_block(
    logits: torch.Tensor, runs: Sequence[Run], pooled: torch.Tensor, pooling: Pooling
) -> None:
    """Fill the rows of `pooled` that belong to the block's texts."""
    import torch

    place = 0
    for run in runs:
        end = place + run.many * run.length
        rows = logits[place:end].view(run.many, run.length, -1)
        place = end
        out = pooled[run.first : run.first + run.many]
        if pooling == "max":
            torch.amax(rows, dim=1, out=out)
        else:
            torch.sum(rows, dim=1, out=out)


def _blocks(lengths: Sequence[int]) -> Iterator[list[Run]]:
    """Whole texts cut into blocks of at most `BLOCK_POSITIONS`; in one, equal lengths are joined.

    A text that is longer makes a block of its own.
    """
    first = 0
    while first < len(lengths):
        end, n_positions = first + 1, lengths[first]
        while end < len(lengths) and n_positions + lengths[end] <= BLOCK_POSITIONS:
            n_positions += lengths[end]
            end += 1
        runs = []
        for length, same in groupby(lengths[first:end]):
            many = len(list(same))
            runs.append(Run(first, many, length))
            first += many
        yield runs

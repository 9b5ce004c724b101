"""Pooling by maximum in two passes: bytes say which terms can be above zero, float32 says how much.

Few of a vocabulary's terms are: some 250 of 30,522 in a passage. The first pass multiplies 8-bit
codes, x ≈ s·c and w_j ≈ t_j·k_j, whose sums are exact in 32 bits. With δx = x - s·c and
δw_j = w_j - t_j·k_j, both measured,

    |x · w_j - s t_j (c · k_j)|  ≤  |δx| |w_j| + |s·c| |δw_j|          (Cauchy and Schwarz)

so a term whose greatest coarse logit stays further below zero than this (by a text's largest |δx|
and |s·c|) has weight 0 in `pool` too. The second pass multiplies the other terms in float32:
what comes out is `pool`'s result, to the rounding of float32 sums taken in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from rag.models.processor import multiplies_bytes
from rag.retrievers.max_pooling import Activation, activate, greatest, pool

if TYPE_CHECKING:
    import torch

LARGEST_CODE = 127

ROUNDING = 2.0**-23
"""What float32 may lose at each step of a sum, with room: of the bound's own and of `pool`'s."""


class CoarseTable(msgspec.Struct, frozen=True):
    """An output projection `[V, d]` in bytes.

    `codes` int8 `[V, d]`, `steps` `[V]` (t_j), `norms` `[V]` (|w_j|), `errors` `[V]` (|δw_j|).
    `seen` tells whether the projection is still the one that was read.
    """

    codes: torch.Tensor
    steps: torch.Tensor
    norms: torch.Tensor
    errors: torch.Tensor
    seen: tuple[int, int]


class ScreenedHead:
    """Owns a projection's coarse table, made when first needed and again when it was changed.

    Safe for threads: two may make the same table.
    """

    def __init__(self) -> None:
        self._table: CoarseTable | None = None

    def pool(
        self,
        hidden: torch.Tensor,
        lengths: Sequence[int],
        embeddings: torch.Tensor,
        bias: torch.Tensor | None,
        activation: Activation = "relu",
    ) -> torch.Tensor:
        """`max_pooling.pool` by maximum, in two passes where that is faster and exact.

        It is on processors with products of bytes, for float32 states and weights.
        """
        if not _screens(hidden, embeddings):
            return pool(hidden, lengths, embeddings, bias, activation=activation)
        table = self._table
        if table is None or table.seen != _state(embeddings):
            table = self._table = coarse_table(embeddings)
        return pool_screened(hidden, lengths, embeddings, bias, table, activation=activation)


def coarse_table(embeddings: torch.Tensor) -> CoarseTable:
    """Round a projection float32 `[V, d]` to bytes, and measure what that costs each row."""
    import torch

    weights = embeddings.detach()
    steps = _steps(weights.abs().amax(1))
    codes = (weights / steps[:, None]).round_()
    return CoarseTable(
        codes=codes.to(torch.int8),
        steps=steps,
        norms=weights.norm(dim=1),
        errors=(weights - codes * steps[:, None]).norm(dim=1),
        seen=_state(embeddings),
    )


def pool_screened(
    hidden: torch.Tensor,
    lengths: Sequence[int],
    embeddings: torch.Tensor,
    bias: torch.Tensor | None,
    table: CoarseTable,
    *,
    activation: Activation = "relu",
) -> torch.Tensor:
    """As `max_pooling.pool` with `pooling="max"`: weights `[n, V]` of states `[sum(lengths), d]`.

    The processor must multiply bytes (`multiplies_bytes`), and d be above 1.
    """
    import torch

    pooled = hidden.new_zeros((len(lengths), len(embeddings)))
    texts = hidden.split(list(lengths))
    reachable = _reachable(texts, lengths, bias, table)
    for text, places, weights in zip(texts, reachable, pooled, strict=True):
        terms = places.nonzero().squeeze(1)
        logits = torch.mm(text, embeddings[terms].t()).amax(0)
        weights[terms] = activate(logits if bias is None else logits + bias[terms], activation)
    return pooled


def _reachable(
    texts: Sequence[torch.Tensor],
    lengths: Sequence[int],
    bias: torch.Tensor | None,
    table: CoarseTable,
) -> torch.Tensor:
    """Bool `[n, V]`: False where no position of a text can give a term a logit above zero."""
    import torch

    steps = _steps(torch.stack([text.abs().amax() for text in texts]))
    coarse, drifts, reaches = [], [], []
    for text, step in zip(texts, steps, strict=True):
        rounded = (text / step).round_()
        coarse.append(rounded.to(torch.int8))
        rounded *= step
        reaches.append(rounded.norm(dim=1).amax())
        drifts.append((text - rounded).norm(dim=1).amax())
    products = greatest(torch.cat(coarse), lengths, table.codes)
    reach, drift = torch.stack(reaches), torch.stack(drifts)
    lost = ROUNDING * (texts[0].shape[1] + 8)
    upper = products * steps[:, None]
    upper *= table.steps
    upper += torch.outer(drift + lost * reach, table.norms)
    upper += torch.outer((1 + lost) * reach, table.errors)
    if bias is not None:
        upper += bias + bias.abs() * ROUNDING
    # What is not a number must not be screened out.
    return (upper <= 0).logical_not_()


def _steps(largest: torch.Tensor) -> torch.Tensor:
    """The step of 8-bit codes that reach as far as the largest values do."""
    import torch

    return torch.where(largest > 0, largest / LARGEST_CODE, 1.0)


def _screens(hidden: torch.Tensor, embeddings: torch.Tensor) -> bool:
    import torch

    single = hidden.dtype == embeddings.dtype == torch.float32 and hidden.device.type == "cpu"
    # torch multiplies bytes wrongly where there is one column.
    return single and hidden.shape[1] > 1 and multiplies_bytes()


def _state(embeddings: torch.Tensor) -> tuple[int, int]:
    """Changes with every change in place, and with another tensor."""
    return embeddings.data_ptr(), 0 if embeddings.is_inference() else embeddings._version

"""SPLADE's pooling without the block of logits: vocabulary weights straight from hidden states.

    w_j = max_i f(h_i · e_j + b_j),  f = log(1 + relu(·))   (SPLADE v2, Formal et al. 2021)

f never falls, so the maximum over positions is taken first and f once on `[n, V]`; b_j does not
depend on the position, so it is added after the maximum. The product is made for a slice of the
vocabulary at a time, with positions last: `[batch, length, V]` never exists, a slice stays in the
processor's cache, and the maximum runs over contiguous memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Pooling = Literal["max", "sum"]
Activation = Literal["log1p_relu", "log1p_log1p_relu"]

SLICE_ELEMENTS = 1 << 18
"""Products made at a time: 1 MiB in float32."""


def pool(
    hidden: torch.Tensor,
    lengths: torch.Tensor,
    embeddings: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    pooling: Pooling = "max",
    activation: Activation = "log1p_relu",
) -> torch.Tensor:
    """Vocabulary weights `[n, V]`, none negative, of n rows of hidden states `[n, L, d]`.

    Row i counts its first `lengths[i]` positions (at least one). `embeddings` is the output
    projection `[V, d]`, `bias` `[V]`.
    """
    import torch

    n_rows, longest, width = hidden.shape
    inside = torch.arange(longest, device=hidden.device)[None, :] < lengths[:, None]
    if pooling == "max":
        # A padded place repeats the first: the maximum cannot see it, and no mask is needed.
        hidden = torch.where(inside[:, :, None], hidden, hidden[:, :1])
    flat = hidden.reshape(n_rows * longest, width).t()
    pooled = hidden.new_empty((len(embeddings), n_rows))
    step = max(64, SLICE_ELEMENTS // (n_rows * longest))
    for start in range(0, len(embeddings), step):
        part = (embeddings[start : start + step] @ flat).view(-1, n_rows, longest)
        if pooling == "max":
            torch.amax(part, dim=2, out=pooled[start : start + step])
        else:
            if bias is not None:
                part += bias[start : start + step, None, None]
            pooled[start : start + step] = (_activate(part, activation) * inside).sum(2)
    if pooling == "sum":
        return pooled.t()
    weights = pooled.t()
    return _activate(weights if bias is None else weights + bias, activation)


def _activate(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    weights = logits.relu().log1p()
    return weights.log1p() if activation == "log1p_log1p_relu" else weights

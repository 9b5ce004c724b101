"""The dense-lexical duplex encoder (DupMAE, Xiao et al. 2023): one pass, two representations.

    dense    z = W h_CLS, or of the mean over all tokens
    lexical  w_j = log(1 + relu(max_i logits_ij)),  i over the ordinary tokens

The paper keeps the pooled logits as they are, its released code has no lexical half; without relu
a product of two negative logits would count as a match, so weights are SPLADE's (Formal et al.
2021). The head is BERT's masked-LM head, tied to the word embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from indexes.errors import ModelError
from rag.models.bert_layers import (
    BertEncoder,
    BertShape,
    copy_tensors,
    load_encoder,
    padded,
    read_tensors,
)
from rag.retrievers.duplex_layout import DuplexConfig, DuplexLayout
from rag.retrievers.max_pooling import pool

TRANSFORM = "cls.predictions.transform"
DECODER_BIAS = "cls.predictions.bias"
DECODER = "cls.predictions.decoder.weight"
PROJECTION = "projection.weight"


class LexicalHead(nn.Module):  # type: ignore[misc]
    """BERT's masked-LM head up to the product with the word embeddings: dense, GELU, LayerNorm."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States `[..., d]` → what the word embeddings are multiplied with, `[..., d]`."""
        found: torch.Tensor = self.norm(functional.gelu(self.dense(states)))
        return found

    def published(self) -> dict[str, nn.Parameter]:
        """The weights by the names that checkpoints have for them."""
        return {
            f"{TRANSFORM}.dense.weight": self.dense.weight,
            f"{TRANSFORM}.dense.bias": self.dense.bias,
            f"{TRANSFORM}.LayerNorm.weight": self.norm.weight,
            f"{TRANSFORM}.LayerNorm.bias": self.norm.bias,
            DECODER_BIAS: self.bias,
        }


class DuplexModel(nn.Module):  # type: ignore[misc]
    """A shared encoder with upper layers, head and projection of its own.

    `head` is None where the folder has none: then there is only the dense half. The encoder's
    lowest layers are never changed; other models may hold the same one.
    """

    def __init__(self, encoder: BertEncoder, config: DuplexConfig, *, head: bool = True) -> None:
        super().__init__()
        shape = encoder.shape
        self.config = config
        self.encoder = encoder
        self.upper = encoder.upper(config.n_shared_layers)
        self.head = LexicalHead(shape) if head else None
        self.decoder: torch.Tensor = encoder.words.weight
        self.projection = None
        if config.dimension:
            self.projection = nn.Linear(shape.hidden_size, config.dimension, bias=False)

    @property
    def dimension(self) -> int:
        """Components of a dense vector."""
        return self.config.dimension or self.encoder.shape.hidden_size

    def lower(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Embeddings and shared layers: states `[B, L, d]`."""
        return self.encoder.run(self.encoder.embed(ids), mask, 0, self.config.n_shared_layers)

    def states(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The last layer's states `[B, L, d]` of token ids, and the mask of what is no padding."""
        ids, mask = padded(rows, self.encoder.shape.pad_token_id, self.decoder.device)
        return self.upper.run(self.lower(ids, mask), mask), mask

    def dense(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The dense half of states `[B, L, d]`: `[B, dimension]`, unit length if so configured."""
        found = self.sentence(states, mask)
        if self.projection is not None:
            found = self.projection(found)
        return functional.normalize(found, dim=-1) if self.config.normalised else found

    def sentence(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """What stands for the whole text, `[B, d]`: the state of [CLS], or the mean of all."""
        if self.config.pooling == "cls":
            return states[:, 0]
        return mean_state(states, mask)

    def ordinary(
        self, states: torch.Tensor, lengths: Sequence[int]
    ) -> tuple[torch.Tensor, list[int]]:
        """The head's states of the ordinary tokens, end to end `[n, d]`, and how many each row has.

        Row i has `lengths[i]` tokens, the first [CLS] and the last [SEP]; neither is ordinary.
        """
        assert self.head is not None
        counts = [max(0, length - 2) for length in lengths]
        kept = [states[row, 1 : 1 + count] for row, count in enumerate(counts)]
        return self.head(torch.cat(kept)), counts

    def lexical(self, states: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """The lexical half `[B, V]` on the CPU, without gradients; rows without tokens are 0."""
        assert self.head is not None
        hidden, counts = self.ordinary(states, lengths)
        found = torch.zeros((len(counts), len(self.decoder)))
        there = [row for row, count in enumerate(counts) if count]
        if there:
            some = [counts[row] for row in there]
            found[there] = pool(hidden, some, self.decoder, self.head.bias).cpu()
        return found

    def trained(self) -> dict[str, nn.Parameter]:
        """What a folder of ours holds, by name."""
        found = dict(self.upper.published())
        if self.head is not None:
            found |= self.head.published()
        if self.projection is not None:
            found[PROJECTION] = self.projection.weight
        return found


def mean_state(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean of states `[B, L, d]` over what is no padding: `[B, d]`."""
    if mask is None:
        return states.mean(1)
    kept = mask[:, :, None].to(states.dtype)
    return (states * kept).sum(1) / kept.sum(1)


@lru_cache(maxsize=4)
def shared_encoder(folder: Path, device: str) -> BertEncoder:
    """An encoder that nobody changes, loaded once for all that build on it."""
    return load_encoder(folder, device)


def load_duplex(layout: DuplexLayout, device: str) -> DuplexModel:
    """Load what a folder holds. Raises `ModelError` when its weights do not fit."""
    encoder = shared_encoder(layout.encoder, device)
    model = DuplexModel(encoder, layout.config, head=layout.head != "none").to(device)
    tensors = {name: value.float() for name, value in read_tensors(layout.trained).items()}
    copy_tensors(tensors, model.trained(), layout.trained.name)
    if layout.head == "masked" and DECODER in tensors:
        # Only our own head must be tied; a published one may have gone its own way.
        model.decoder = tensors[DECODER].to(device)
    if len(model.decoder) != encoder.shape.vocab_size:
        raise ModelError(f"{layout.trained.name}: its head has another vocabulary")
    return model.requires_grad_(requires_grad=False).eval()  # type: ignore[no-any-return]

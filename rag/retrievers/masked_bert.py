"""A plain BERT with its masked-LM head, without transformers, whose import takes seconds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from indexes.errors import Unsupported
from rag.models.bert_layers import (
    BertEncoder,
    BertShape,
    bert_shape,
    copy_tensors,
    read_tensors,
)
from rag.models.safety import read_object
from rag.retrievers.duplex_model import DECODER, DECODER_BIAS, LexicalHead

WORDS = "embeddings.word_embeddings.weight"


class MaskedBert(nn.Module):  # type: ignore[misc]
    """All but the projection onto the vocabulary, called as transformers' model is."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.encoder = BertEncoder(shape)
        self.transform = LexicalHead(shape)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SimpleNamespace:
        """Token ids `[B, L]` → `logits`: what the projection multiplies, `[B, L, d]`."""
        mask = None if attention_mask is None else attention_mask.bool()
        states = self.encoder.run(self.encoder.embed(input_ids), mask)
        return SimpleNamespace(logits=self.transform(states))


def open_masked_bert(folder: Path) -> tuple[MaskedBert, nn.Linear] | None:
    """The model and its projection, float32, not to be changed; None where it is no such model."""
    config = read_object(folder / "config.json") or {}
    if config.get("model_type") != "bert" or config.get("is_decoder"):
        return None
    if config.get("architectures") != ["BertForMaskedLM"]:
        return None
    try:
        shape = bert_shape(folder)
    except Unsupported:
        return None
    tensors = read_tensors(folder)
    model = MaskedBert(shape)
    projection = nn.Linear(shape.hidden_size, shape.vocab_size)
    table = WORDS if config.get("tie_word_embeddings", True) else DECODER
    for part in (
        model.encoder.published() | model.transform.published(),
        {table: projection.weight, DECODER_BIAS: projection.bias},
    ):
        if any(name not in tensors or tensors[name].shape != p.shape for name, p in part.items()):
            return None
        copy_tensors(tensors, part)
    model.encoder.stack.seal()
    for part in (model, projection):
        part.requires_grad_(requires_grad=False).eval()
    return model, projection

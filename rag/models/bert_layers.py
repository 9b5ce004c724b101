"""A BERT encoder cut into layers, so that what several models share is computed once.

Models trained from one encoder may leave its lowest layers as they are. Then one pass through
those serves them all, and each goes on through upper layers of its own:

    states = encoder.embed(ids)
    shared = encoder.run(states, mask, 0, 3)
    mine = upper.run(shared, mask)

Weights go by their published names (`encoder.layer.3.attention.self.query.weight`). Post-norm
layers with GELU and absolute positions, as in BERT (Devlin et al. 2019); nothing is dropped out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn import functional

from indexes.errors import ModelError, Unsupported
from rag.models.fixed_encoder import FixedEncoder
from rag.models.fixed_layers import FixedStack, fix_layers, rounding_for, run_fixed
from rag.models.packed_layers import PackedLayer, packs
from rag.models.safety import check_folder, read_object
from rag.models.torch_runtime import Rounding

LAYER = "encoder.layer."
PREFIX = "bert."
"""What a model with a head on top puts before the encoder's names."""


class BertShape(msgspec.Struct, frozen=True):
    """What a folder's `config.json` says of the encoder's size, by the names it uses."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    hidden_act: str = "gelu"
    model_type: str = "bert"
    position_embedding_type: str = "absolute"


class BertLayer(nn.Module):  # type: ignore[misc]
    """Self-attention and two dense layers, each followed by a residual sum and a LayerNorm."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.n_heads = shape.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.inner = nn.Linear(width, shape.intermediate_size)
        self.outer = nn.Linear(shape.intermediate_size, width)
        self.outer_norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)

    def forward(
        self,
        states: torch.Tensor,
        mask: torch.Tensor | None,
        context: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """States `[B, L, d]` → the same shape, each reading `context` `[B, M, d]`, or all states.

        `mask` is bool `[B, 1, 1 or L, M]`, True where there is something to read.
        """
        read = states if context is None else context
        query = self._heads(self.query(states))
        key, value = self._heads(self.key(read)), self._heads(self.value(read))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(states.shape)
        states = self.attended_norm(states + self.attended(mixed))
        found: torch.Tensor = self.outer_norm(
            states + self.outer(functional.gelu(self.inner(states)))
        )
        return found

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        """`[B, L, d]` → `[B, heads, L, d / heads]`."""
        n_rows, length, width = states.shape
        return states.view(n_rows, length, self.n_heads, width // self.n_heads).transpose(1, 2)


PUBLISHED = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "outer_norm": "output.LayerNorm",
}
"""A layer's parts by what checkpoints call them."""


class BertLayers(nn.Module):  # type: ignore[misc]
    """Consecutive layers of an encoder; `first` is the number of the lowest."""

    def __init__(self, shape: BertShape, first: int, n_layers: int) -> None:
        super().__init__()
        self.first = first
        self.layers = nn.ModuleList(BertLayer(shape) for _ in range(n_layers))
        self._sealed = False
        self._packed: list[PackedLayer] = []
        self._fixed: dict[Rounding, FixedStack] = {}

    def seal(self) -> BertLayers:
        """Promise that the weights stay as they are: copies in other layouts may compute for them.

        A copy is made when first needed: packed for short texts, in fixed point where that is
        wanted (`rag.models.torch_runtime.computing_in`). Returns the layers themselves.
        """
        self._sealed = True
        return self

    def run(
        self,
        states: torch.Tensor,
        mask: torch.Tensor | None,
        first: int | None = None,
        last: int | None = None,
    ) -> torch.Tensor:
        """States `[B, L, d]` through the layers `first` to before `last`, numbered as published.

        Left out, they are the lowest and the highest here. `mask` bool `[B, L]` is False where
        a row is padding, None where there is none: attention is faster without a mask.
        """
        start = 0 if first is None else first - self.first
        end = len(self.layers) if last is None else last - self.first
        if (rounding := self.rounding_for(states)) is not None:
            return run_fixed(self.fixed_layers(rounding), states, mask, start, end)
        read = None if mask is None else mask[:, None, None, :]
        layers = self._packed_layers() if self._sealed and packs(states) else self.layers
        for layer in layers[start:end]:
            states = layer(states, read)
        return states

    def _packed_layers(self) -> list[PackedLayer]:
        """Made once; two threads that find none make the same."""
        if not self._packed:
            self._packed = [PackedLayer(layer) for layer in self.layers]
        return self._packed

    def rounding_for(self, states: torch.Tensor) -> Rounding | None:
        """The fixed point that states like these are to be computed in, if they can be."""
        if not self._sealed or not len(self.layers):
            return None
        return rounding_for(states, self.layers[0])

    def fixed_layers(self, rounding: Rounding) -> FixedStack:
        """All layers in fixed point, made once as those are."""
        if rounding not in self._fixed:
            self._fixed[rounding] = fix_layers(self.layers, rounding)
        return self._fixed[rounding]

    def published(self) -> dict[str, nn.Parameter]:
        """The weights by the names that checkpoints have for them."""
        return {
            f"{LAYER}{self.first + number}.{theirs}.{kind}": getattr(getattr(layer, ours), kind)
            for number, layer in enumerate(self.layers)
            for ours, theirs in PUBLISHED.items()
            for kind in ("weight", "bias")
        }

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take the weights over from published names. Raises `ModelError` for what is missing."""
        copy_tensors(tensors, self.published())


class BertEncoder(nn.Module):  # type: ignore[misc]
    """The embeddings and all layers of a checkpoint; see `load_encoder`."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.shape = shape
        self.words = nn.Embedding(shape.vocab_size, width)
        self.positions = nn.Embedding(shape.max_position_embeddings, width)
        self.types = nn.Embedding(shape.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.stack = BertLayers(shape, 0, shape.num_hidden_layers)
        self._fixed: dict[Rounding, FixedEncoder] = {}

    def embed(self, ids: torch.Tensor, types: torch.Tensor | None = None) -> torch.Tensor:
        """Token ids int64 `[B, L]` → states `[B, L, d]`; without `types` of the first segment."""
        places = torch.arange(ids.shape[1], device=ids.device)
        segments = self.types.weight[0] if types is None else self.types(types)
        summed = self.words(ids) + self.positions(places) + segments
        found: torch.Tensor = self.norm(summed)
        return found

    def run(
        self,
        states: torch.Tensor,
        mask: torch.Tensor | None,
        first: int | None = None,
        last: int | None = None,
    ) -> torch.Tensor:
        """As `BertLayers.run`, over all layers."""
        return self.stack.run(states, mask, first, last)

    def fixed(self) -> FixedEncoder | None:
        """All of it in fixed point, made once; None where that is not wanted or cannot be."""
        rounding = self.stack.rounding_for(self.words.weight)
        if rounding is None:
            return None
        if rounding not in self._fixed:
            self._fixed[rounding] = FixedEncoder(self, self.stack.fixed_layers(rounding))
        return self._fixed[rounding]

    def upper(self, first: int) -> BertLayers:
        """Layers from `first` up as a stack of its own, with a copy of the weights."""
        n_layers = self.shape.num_hidden_layers - first
        copied = BertLayers(self.shape, first, n_layers)
        copied.load(self.stack.published())
        copied.to(self.words.weight.device)
        return copied

    def published(self) -> dict[str, nn.Parameter]:
        """All weights by the names that checkpoints have for them."""
        return {
            "embeddings.word_embeddings.weight": self.words.weight,
            "embeddings.position_embeddings.weight": self.positions.weight,
            "embeddings.token_type_embeddings.weight": self.types.weight,
            "embeddings.LayerNorm.weight": self.norm.weight,
            "embeddings.LayerNorm.bias": self.norm.bias,
            **self.stack.published(),
        }


def load_encoder(folder: Path, device: str = "cpu") -> BertEncoder:
    """The encoder of a checked folder, float32, ready to compute; a head on top is passed over.

    Raises `Unsupported` for another architecture, `ModelError` for damage.
    """
    encoder = BertEncoder(bert_shape(folder))
    copy_tensors(read_tensors(folder), encoder.published())
    encoder.requires_grad_(requires_grad=False).to(device).eval()
    return encoder


@lru_cache(maxsize=4)
def shared_encoder(folder: Path, device: str) -> BertEncoder:
    """An encoder that nobody changes, loaded once for all that build on it."""
    encoder = load_encoder(folder, device)
    encoder.stack.seal()
    return encoder


def bert_shape(folder: Path) -> BertShape:
    """The encoder's size. Raises `Unsupported` when it is no BERT with GELU, absolute positions."""
    config = read_object(folder / "config.json") or {}
    try:
        shape = msgspec.convert(config, BertShape)
    except msgspec.ValidationError as error:
        raise Unsupported(f"{folder.name} is no BERT encoder: {error}") from error
    if not is_plain(shape):
        kind = (shape.model_type, shape.hidden_act, shape.position_embedding_type)
        raise Unsupported(f"{folder.name} is no plain BERT encoder but {', '.join(kind)}")
    return shape


def is_plain(shape: BertShape) -> bool:
    """Whether the layers here compute what the encoder does."""
    kind = (shape.model_type, shape.hidden_act, shape.position_embedding_type)
    return kind == ("bert", "gelu", "absolute")


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checked folder, by their names without the prefix `bert.`.

    Old checkpoints call a norm's weight gamma and its bias beta.
    """
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for file in check_folder(folder):
        found |= load_file(file)
    return {_name(name): tensor for name, tensor in found.items()}


def _name(published: str) -> str:
    name = published.removeprefix(PREFIX)
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def copy_tensors(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], what: str = "the model"
) -> None:
    """Copy values in place. Raises `ModelError` when a name is missing or a shape is another."""
    for name, tensor in wanted.items():
        if name not in found or found[name].shape != tensor.shape:
            here = tuple(found[name].shape) if name in found else "not there"
            raise ModelError(f"{what}: {name} should be {tuple(tensor.shape)}, but is {here}")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])


def padded(
    rows: Sequence[Sequence[int]], pad: int, device: str | torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Token ids int64 `[B, L]` and what is no padding, bool `[B, L]`; None where nothing is."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows])
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
    if int(lengths.min()) == longest:
        return ids.to(device), None
    mask = torch.arange(longest)[None, :] < lengths[:, None]
    return ids.to(device), mask.to(device)


def mean_state(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean of states `[B, L, d]` over what is no padding: `[B, d]`."""
    if mask is None:
        return states.mean(1)
    kept = mask[:, :, None].to(states.dtype)
    return (states * kept).sum(1) / kept.sum(1)

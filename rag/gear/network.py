"""The whole model: bi-encoder, fusion encoder, reader and decoder over one frozen base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn import functional

from indexes.errors import Conflict, ModelError
from indexes.files import write_durably
from rag.gear.decoder import TextDecoder
from rag.gear.fixed_pass import FixedPass
from rag.gear.fusion import Fusion, FusionBlocks, Memory
from rag.gear.reader import SentenceReader
from rag.gear.shape import GearShape, read_shape
from rag.models.bert_layers import (
    BertEncoder,
    BertLayer,
    BertLayers,
    copy_tensors,
    load_encoder,
    read_tensors,
    shared_encoder,
)
from rag.models.fixed_layers import rounding_for
from rag.models.resolver import ResolvedModel, resolve
from rag.models.torch_runtime import Precision, Rounding

WEIGHTS = "model.safetensors"


class GearBiEncoder:
    """What retrieval needs: the base's lowest layers and GeAR's own upper ones.

    Questions and documents go through the same layers.
    """

    def __init__(self, base: BertEncoder, upper: BertLayers) -> None:
        self.base, self.upper = base, upper

    def shared(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids `[B, L]` → states after the shared layers `[B, L, d]`."""
        return self.base.run(self.base.embed(ids), mask, 0, self.upper.first)

    def states(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids `[B, L]` → token states after all layers `[B, L, d]`."""
        return self.upper.run(self.shared(ids, mask), mask)

    def layers(self) -> list[BertLayer]:
        """All layers, lowest first."""
        return [*self.base.stack.layers[: self.upper.first], *self.upper.layers]


def pooled(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over the tokens, special ones too, at unit length: `[B, d]` float32."""
    states = states.float()
    if mask is None:
        return functional.normalize(states.mean(1), dim=1)
    weights = mask[:, :, None].float()
    return functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1)


class GearNetwork(nn.Module):  # type: ignore[misc]
    """All of it. The base is no part of `parameters()`: it is frozen and not saved."""

    def __init__(self, base: BertEncoder, shape: GearShape) -> None:
        super().__init__()
        self.shape = shape
        self._base = (base,)
        self._sealed = False
        self._fixed: dict[Rounding, FixedPass] = {}
        n_layers = base.shape.num_hidden_layers
        self.memory_layer = shape.memory_layer or n_layers
        if not shape.n_shared <= self.memory_layer <= n_layers:
            raise ModelError(
                f"memory_layer {shape.memory_layer} is not among {shape.n_shared} to {n_layers}"
            )
        self.upper = base.upper(shape.n_shared)
        self.fusion = FusionBlocks(base.shape)
        self.decoder = TextDecoder(base.shape, shape.n_decoder_layers, shape.decoder_inner)
        self.reader = SentenceReader(
            base.shape.num_hidden_layers,
            base.shape.num_attention_heads,
            base.shape.hidden_size,
            shape.locate_layers,
        )

    @property
    def base(self) -> BertEncoder:
        """The frozen encoder; in a tuple, lest torch take it for a part of the module."""
        return self._base[0]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        found: torch.device = self.base.words.weight.device
        return found

    def stored_in(self, precision: Precision) -> GearNetwork:
        """Itself, its weights stored in this precision; the reader stays in single."""
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        for part in (self.base, self.upper, self.fusion, self.decoder):
            part.to(dtype)
        return self

    def seal(self) -> GearNetwork:
        """Promise that the weights stay as they are, so that copies of them may compute."""
        self.base.stack.seal()
        self.upper.seal()
        self._sealed = True
        return self

    def fixed(self) -> FixedPass | None:
        """What computes this in fixed point, made once; None where that is not to be."""
        layer = self.encoder.layers()[0]
        rounding = rounding_for(self.base.words.weight, layer) if self._sealed else None
        if rounding is None:
            return None
        if rounding not in self._fixed:
            self._fixed[rounding] = FixedPass(self, rounding)
        return self._fixed[rounding]

    @property
    def encoder(self) -> GearBiEncoder:
        """The retrieval part."""
        return GearBiEncoder(self.base, self.upper)

    def memory(self, shared: torch.Tensor, mask: torch.Tensor | None) -> Memory:
        """Documents after the shared layers `[B, L, d]` → what cross-attention looks at."""
        return Memory(self.upper.run(shared, mask, last=self.memory_layer), mask)

    def fuse(self, ids: torch.Tensor, mask: torch.Tensor | None, memory: Memory) -> Fusion:
        """Questions `[B, M]`, each with its document."""
        return self.fusion.fuse(self.encoder.layers(), self.base.embed(ids), mask, memory)

    def decode(self, ids: torch.Tensor, fused: Memory) -> torch.Tensor:
        """Words so far `[B, T]` → states `[B, T, d]` that predict the next ones."""
        found: torch.Tensor = self.decoder(self.base.embed(ids), fused)
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """What is saved, by name; the upper layers go by their published names."""
        own = {
            name: parameter
            for name, parameter in self.named_parameters()
            if not name.startswith("upper.")
        }
        return {**self.upper.published(), **own}


def open_bi_encoder(model: ResolvedModel, cache: Path, device: str) -> GearBiEncoder:
    """The retrieval part of a folder; nothing else of it is read."""
    shape, base, _ = _opened(model, cache, device, shared_encoder)
    upper = base.upper(shape.n_shared)
    copy_tensors(_weights(model), upper.published(), model.name)
    return GearBiEncoder(base, upper.to(device).eval().seal())


def open_network(model: ResolvedModel, cache: Path, device: str) -> tuple[GearNetwork, Path]:
    """All of a folder, and where the tokenizer lies.

    Raises `ModelError` for a folder of another kind, `Conflict` for another base than it was
    trained on.
    """
    shape, base, folder = _opened(model, cache, device)
    network = GearNetwork(base, shape)
    copy_tensors(_weights(model), network.tensors(), model.name)
    return network.requires_grad_(requires_grad=False).to(device).eval(), folder


def save_network(network: GearNetwork, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write what the functions above open; half precision halves the file."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    copies = {
        name: tensor.detach().cpu().to(dtype).contiguous()
        for name, tensor in network.tensors().items()
    }
    write_durably(folder / WEIGHTS, save(copies))
    config = msgspec.json.format(msgspec.json.encode(network.shape))
    write_durably(folder / "config.json", config)


def _opened(
    model: ResolvedModel,
    cache: Path,
    device: str,
    load: Callable[[Path, str], BertEncoder] = load_encoder,
) -> tuple[GearShape, BertEncoder, Path]:
    shape = read_shape(model.folder)
    base = resolve(shape.base, cache)
    if base.sha256 != shape.base_sha256:
        raise Conflict(
            f"{model.name} was trained over {shape.base} {shape.base_sha256[:12]}, "
            f"but {base.sha256[:12]} is here"
        )
    return shape, load(base.folder, device), base.folder


def _weights(model: ResolvedModel) -> Mapping[str, Any]:
    return {name: tensor.float() for name, tensor in read_tensors(model.folder).items()}

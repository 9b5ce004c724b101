"""The duplex encoder under training: made from its base, read into, written as it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from torch import nn
from torch.nn import functional

from indexes.files import write_durably
from rag.models.bert_layers import copy_tensors, mean_state, padded, shared_encoder
from rag.models.resolver import ResolvedModel
from rag.retrievers.batching import token_batches
from rag.retrievers.duplex_layout import DuplexConfig
from rag.retrievers.duplex_model import DuplexModel
from rag.retrievers.model_tokens import ModelTokenizer
from rag.train.dupmae.recipe import DupmaeRecipe

SCALE = "dense_scale"
HEAD_STD = 0.02
RARITY_TEXTS = 8192
IDF_SHARE = 0.7
"""A token that stands in a text begins with a logit of this times its IDF."""

BASIS_TEXTS = 1024
"""Texts whose embeddings the projection's first directions are the principal ones of."""

BASIS_TOKENS = 64


class DuplexNetwork:
    """Owns the model with its upper layers, head and projection to be trained.

    They begin as the base's upper layers, a random head, and the principal directions of the
    base's own embeddings of `texts`: what `tie` measures is how far from those the dense half is.
    The literal gate, where the recipe wants one, begins as the tokens' rarity in `texts`.
    """

    def __init__(
        self,
        base: ResolvedModel,
        recipe: DupmaeRecipe,
        texts: Sequence[str],
        *,
        device: str,
        seed: int,
    ) -> None:
        config = DuplexConfig(
            base=recipe.model,
            base_sha256=base.sha256,
            n_shared_layers=recipe.n_shared_layers,
            dimension=recipe.dimension,
            pooling=recipe.pooling,
            doc_terms=recipe.doc_terms,
            query_terms=recipe.query_terms,
            max_tokens=recipe.max_tokens,
            literal=recipe.literal,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = DuplexModel(shared_encoder(base.folder, device), config).to(device)
            assert self.model.head is not None
            assert self.model.projection is not None
            nn.init.normal_(self.model.head.dense.weight, std=HEAD_STD)
            nn.init.zeros_(self.model.head.dense.bias)
        self.head, self.projection = self.model.head, self.model.projection
        self.encoder = self.model.encoder
        self.dense_scale = nn.Parameter(torch.tensor(recipe.dense_scale, device=device).log())
        self._tokenizers: dict[int, ModelTokenizer] = {}
        self._base = base
        self._basis = self._principal(_spread(texts, BASIS_TEXTS))
        with torch.no_grad():
            self.projection.weight.copy_(self._basis)
            if self.model.literal is not None:
                self.model.literal.table.copy_(self._rarity(_spread(texts, RARITY_TEXTS)))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.decoder.device

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What is trained, by the names it is saved under."""
        return {**self.model.trained(), SCALE: self.dense_scale}

    def rows(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Token ids of texts, cut after `max_tokens`."""
        if max_tokens not in self._tokenizers:
            self._tokenizers[max_tokens] = ModelTokenizer(self._base.folder, max_tokens)
        return [read.ids for read in self._tokenizers[max_tokens].read(texts)]

    def vocabulary(self) -> list[str]:
        """The terms, in the order of their ids."""
        self.rows([], self.model.config.max_tokens)
        return self._tokenizers[self.model.config.max_tokens].tokens(len(self.model.decoder))

    def states(
        self, rows: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Differentiable last states `[B, L, d]`, the mask, and the shared layers' states."""
        ids, mask = padded(rows, self.encoder.shape.pad_token_id, self.device)
        with torch.no_grad():
            lower = self.model.lower(ids, mask)
        return self.model.upper.run(lower, mask), mask, lower

    def embedding(self, lower: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The base's own embedding in the principal directions `[B, dimension]`.

        Its own upper layers go on from the shared ones; the mean over all tokens, unit length.
        """
        with torch.no_grad():
            states = self.encoder.run(lower, mask, self.model.config.n_shared_layers)
            return functional.normalize(mean_state(states, mask).float(), dim=1) @ self._basis.t()

    def save(self, folder: Path) -> None:
        """Write what `rag.retrievers.duplex_layout` opens, weights in float16."""
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: parameter.detach().to("cpu", torch.float16).contiguous()
            for name, parameter in self.model.trained().items()
        }
        scale = round(float(self.dense_scale.detach().exp()), 4)
        config = msgspec.structs.replace(self.model.config, dense_scale=scale)
        write_durably(folder / "model.safetensors", save(tensors))
        write_durably(folder / "config.json", msgspec.json.format(msgspec.json.encode(config)))

    def load(self, folder: Path) -> None:
        """Take over what `save` wrote: the next stage begins there."""
        from safetensors.torch import load_file

        tensors = {
            name: one.float() for name, one in load_file(folder / "model.safetensors").items()
        }
        copy_tensors(tensors, self.model.trained())
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=DuplexConfig)
        with torch.no_grad():
            self.dense_scale.fill_(config.dense_scale).log_()

    def _rarity(self, texts: Sequence[str]) -> torch.Tensor:
        """The literal gate's table `[V]`: what softplus turns into a share of the tokens' IDF."""
        counts = torch.zeros(len(self.model.decoder))
        for row in self.rows(texts, self.model.config.max_tokens):
            counts[sorted(set(row))] += 1
        idf = torch.log1p((len(texts) - counts + 0.5) / (counts + 0.5))
        return (IDF_SHARE * idf).expm1().log()

    def _principal(self, texts: Sequence[str]) -> torch.Tensor:
        """The first right singular vectors of the base's embeddings: `[dimension, d]`."""
        rows = self.rows(texts, BASIS_TOKENS)
        found = []
        with torch.no_grad():
            for places in token_batches([len(row) for row in rows], 4096):
                ids, mask = padded([rows[place] for place in places], 0, self.device)
                states = self.encoder.run(self.encoder.embed(ids), mask)
                found.append(functional.normalize(mean_state(states, mask), dim=1))
        basis = torch.linalg.svd(torch.cat(found), full_matrices=True).Vh
        return basis[: self.model.config.dimension].contiguous()


def _spread(texts: Sequence[str], n_texts: int) -> Sequence[str]:
    """At most `n_texts` of the texts, evenly from first to last: files are sorted by source."""
    return texts[:: max(1, len(texts) // n_texts)][:n_texts]

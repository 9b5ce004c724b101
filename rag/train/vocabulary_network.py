"""The language model under training: loaded, read into, and written as a retriever opens it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import torch

from indexes.errors import UsageError
from rag.retrievers.splade_layout import Side, head_of
from rag.retrievers.vocabulary_encoder import VocabularyEncoder
from rag.train.low_rank import LowRankAdapters
from rag.train.splade_recipe import LowRankConfig

Backbone = Literal["masked", "decoder"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


class VocabularyNetwork:
    """Owns the model and, where the recipe asks for them, its low-rank adapters.

    A decoder is fed each text twice, unless `echo` says otherwise. `seed` is of the adapters.
    Raises `UsageError` when the folder's model is not of the backbone's kind.
    """

    def __init__(
        self,
        folder: Path,
        backbone: Backbone,
        *,
        max_tokens: int,
        device: str,
        echo: bool | None = None,
        low_rank: LowRankConfig | None = None,
        seed: int = 0,
    ) -> None:
        head = head_of(folder)
        if head != ("causal" if backbone == "decoder" else "masked"):
            raise UsageError(f"backbone {backbone!r}: {folder.name} has a head of kind {head!r}")
        self._folder = folder
        self._encoder = VocabularyEncoder(
            Side(folder, head),
            echo=backbone == "decoder" if echo is None else echo,
            max_tokens=max_tokens,
            device=device,
            batch_tokens=1,
            is_trained=True,
        )
        self.model = self._encoder.model
        self._adapters = None
        if low_rank is not None:
            for parameter in self._own().values():
                parameter.requires_grad_(requires_grad=False)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self._adapters = LowRankAdapters(self.model.module, low_rank)

    @property
    def on_cpu(self) -> bool:
        """Whether the processor's threads share the work."""
        return bool(self.model.head.weight.device.type == "cpu")

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What is trained, by name: the adapters, or all of the model with its head."""
        return self._own() if self._adapters is None else self._adapters.parameters()

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids as the model is fed: for a decoder every text twice."""
        return self._encoder.rows(texts)

    def train(self, *, dropout: bool) -> None:
        """Training mode; without `dropout` nothing is random."""
        self.model.module.train(dropout)

    def save(self, folder: Path) -> None:
        """Write a folder that transformers and SPLADE retrievers open, adapters merged."""
        folder.mkdir(parents=True, exist_ok=True)
        with nullcontext() if self._adapters is None else self._adapters.merged():
            self.model.save(folder)
        for name in TOKENIZER_FILES:
            if (self._folder / name).is_file() and not (folder / name).exists():
                shutil.copyfile(self._folder / name, folder / name)

    def _own(self) -> dict[str, torch.nn.Parameter]:
        """The model's parameters, each once; the head's stand last where they are its own."""
        named = dict(self.model.module.named_parameters())
        known = {id(parameter) for parameter in named.values()}
        for name, parameter in self.model.head.named_parameters():
            if id(parameter) not in known:
                named[f"head.{name}"] = parameter
        return named

"""The token classifier under training: read into, and written as the compressor opens it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from indexes.errors import UsageError
from indexes.files import write_durably
from rag.compress.classifier_model import HEAD, LOW_RANK, PRESERVE, LowRankConfig, encoder_with_head
from rag.compress.classifier_tokens import ClassifierTokens
from rag.models.resolver import ResolvedModel
from rag.models.torch_runtime import quiet_transformers
from rag.train.low_rank import LowRankAdapters
from rag.train.splade_recipe import LowRankConfig as AdapterConfig

IGNORED = -100
"""The label of positions that the loss passes over: special tokens, question, padding."""

HEAD_SCALE = 0.02


class PreserveNetwork:
    """Owns an encoder with a head of two classes and, where asked for, low-rank adapters.

    The head begins at random from `seed`. Raises `UsageError` for an encoder without a place to
    put it.
    """

    def __init__(
        self,
        base: ResolvedModel,
        *,
        base_name: str,
        max_tokens: int,
        device: str,
        low_rank: AdapterConfig | None,
        seed: int,
    ) -> None:
        self._base, self._base_name, self._device = base, base_name, device
        self.max_tokens = max_tokens
        self.tokens = ClassifierTokens(base.folder)
        module, missing = encoder_with_head(base, num_labels=PRESERVE + 1)
        if not hasattr(module, "classifier"):
            raise UsageError(f"{base_name}: its token classification has no layer `classifier`")
        if {name for name in missing if not name.startswith("classifier")}:
            raise UsageError(f"{base_name}: not an encoder that can get a token head")
        self.module: Any = module.to(device)
        self._low_rank = low_rank
        self._adapters = None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            with torch.no_grad():
                self.module.classifier.weight.normal_(std=HEAD_SCALE)
                self.module.classifier.bias.zero_()
            if low_rank is not None:
                for parameter in self.module.parameters():
                    parameter.requires_grad_(requires_grad=False)
                self.module.classifier.requires_grad_(requires_grad=True)
                head = self.module.classifier
                self.module.classifier = torch.nn.Identity()
                self._adapters = LowRankAdapters(self.module, low_rank)
                self.module.classifier = head

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What is trained, by name: the head, and the adapters or all of the encoder."""
        if self._adapters is None:
            return dict(self.module.named_parameters())
        head = self.module.classifier.named_parameters(prefix="classifier")
        return {**self._adapters.parameters(), **dict(head)}

    def logits(self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> torch.Tensor:
        """Differentiable logits `[len(rows), longest, 2]`."""
        shape = (len(rows), max(map(len, rows)))
        ids = torch.zeros(shape, dtype=torch.long)
        mask, segments = torch.zeros_like(ids), torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            segments[number, : len(row)] = torch.tensor(types[number])
            mask[number, : len(row)] = 1
        features = {"input_ids": ids, "attention_mask": mask}
        if getattr(self.module.config, "type_vocab_size", 0) > 1:
            features["token_type_ids"] = segments
        found: torch.Tensor = self.module(
            **{name: value.to(self._device) for name, value in features.items()}
        ).logits
        return found

    def save(self, folder: Path) -> None:
        """Write what `rag.compress.classifier_model.load_classifier` opens."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._adapters is None or self._low_rank is None:
            self._save_whole(folder)
            return
        from safetensors.torch import save

        # Half precision: what is saved is what is measured, and corrections are small beside W.
        tensors = {
            name: parameter.detach().cpu().half().contiguous()
            for name, parameter in self.parameters().items()
        }
        config = LowRankConfig(
            base=self._base_name,
            base_sha256=self._base.sha256,
            scale=self._low_rank.alpha / self._low_rank.rank,
            reads_question=True,
            max_tokens=self.max_tokens,
            architectures=(LOW_RANK,),
        )
        write_durably(folder / "model.safetensors", save(tensors))
        write_durably(folder / "config.json", msgspec.json.format(msgspec.json.encode(config)))

    def _save_whole(self, folder: Path) -> None:
        self.module.config.reads_question = True
        self.module.config.architectures = [type(self.module).__name__]
        assert HEAD in type(self.module).__name__
        with quiet_transformers():
            self.module.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (self._base.folder / name).is_file():
                write_durably(folder / name, (self._base.folder / name).read_bytes())

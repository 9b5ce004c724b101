"""A language model whose head scores the vocabulary at every position: masked or causal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from indexes.errors import ModelError, UnsafeModel
from rag.models.torch_runtime import quiet_transformers
from rag.retrievers.max_pooling import Activation, Pooling, pool

if TYPE_CHECKING:
    import torch


class _Module(msgspec.Struct):
    """One line of a sentence-transformers folder's `modules.json`."""

    path: str = ""
    type: str = ""


class VocabularyModel:
    """Owns the weights. `encode` is safe for threads: nothing is changed by it.

    With `echo` the text is fed twice and only the second reading counts, so that a causal model
    has seen all of the text at each position (Springer et al. 2024; Echo-Mistral-SPLADE, Doshi
    et al. 2024).
    """

    def __init__(self, folder: Path, *, device: str, echo: bool = False) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

        home = model_folder(folder)
        if not any(home.glob("*.safetensors")):
            raise UnsafeModel(f"{folder.name} holds no weights in safetensors")
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_transformers():
                config = AutoConfig.from_pretrained(home, **local)
                kind = AutoModelForCausalLM if echo else AutoModelForMaskedLM
                module = kind.from_pretrained(
                    home, config=config, use_safetensors=True, dtype=torch.float32, **local
                )
            self._tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"{folder.name} is no {_wanted(echo)} model: {error}") from error
        head = module.get_output_embeddings()
        if head is None:
            raise ModelError(f"{folder.name} has no vocabulary head")
        self._embeddings: torch.Tensor = head.weight.detach().to(device)
        bias = getattr(head, "bias", None)
        self._bias: torch.Tensor | None = None if bias is None else bias.detach().to(device)
        # Without its last layer the model gives that layer's input: what the pooling multiplies.
        name = next(name for name, part in module.named_modules() if part is head)
        module.set_submodule(name, torch.nn.Identity())
        self._module: Any = module.to(device).eval()
        self._device = device
        self._echo = echo
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.limit = int(getattr(config, "max_position_embeddings", 512)) // (2 if echo else 1)
        size = self._tokenizer.get_vocab_size()
        self.tokens = [
            self._tokenizer.id_to_token(number) or f"[{number}]" for number in range(size)
        ]
        self._extend_tokens()

    def token_ids(
        self, texts: Sequence[str], max_tokens: int
    ) -> tuple[list[list[int]], list[bool]]:
        """Ids of each text, cut to `max_tokens`, and whether it was cut."""
        special = self._tokenizer.num_special_tokens_to_add(False)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        kept = [encoding.ids[: max_tokens - special] for encoding in encodings]
        cut = [len(encoding.ids) > len(ids) for encoding, ids in zip(encodings, kept, strict=True)]
        return [self._framed(ids) for ids in kept], cut

    def weights(
        self, rows: Sequence[Sequence[int]], pooling: Pooling, activation: Activation
    ) -> torch.Tensor:
        """Vocabulary weights float32 `[len(rows), V]`."""
        import torch

        hidden, lengths = self.hidden(rows)
        with torch.inference_mode():
            return pool(
                hidden,
                lengths,
                self._embeddings,
                self._bias,
                pooling=pooling,
                activation=activation,
            ).cpu()

    def hidden(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the head multiplies, `[n, L, d]`, and how many positions of each row count."""
        import torch

        fed = [[*row, *row] if self._echo else list(row) for row in rows]
        longest = max(len(row) for row in fed)
        ids = torch.zeros((len(fed), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(fed):
            ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[number, : len(row)] = 1
        with torch.inference_mode():
            output = self._module(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
            )
        hidden: torch.Tensor = output.logits
        lengths = torch.tensor([len(row) for row in rows], device=hidden.device)
        if self._echo:
            places = lengths[:, None] + torch.arange(int(lengths.max()), device=hidden.device)
            places = places.clamp(max=longest - 1)
            hidden = hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[2]))
        return hidden, lengths

    def best_positions(self, row: Sequence[int], term_ids: Sequence[int]) -> list[int]:
        """For each term the position of `row` at which its logit is greatest."""
        import torch

        hidden, _ = self.hidden([row])
        with torch.inference_mode():
            logits = hidden[0] @ self._embeddings[list(term_ids)].t()
            found: list[int] = logits.argmax(0).tolist()
        return found

    def offsets(self, text: str, max_tokens: int) -> list[tuple[int, int]]:
        """Code point spans in `text` of the ids that `token_ids` gives; specials are empty."""
        encoding = self._tokenizer.encode(text, add_special_tokens=True)
        spans: list[tuple[int, int]] = encoding.offsets
        specials: list[int] = encoding.special_tokens_mask
        inside = [span for span, special in zip(spans, specials, strict=True) if not special]
        n_special = len(spans) - len(inside)
        lead = specials.index(0) if 0 in specials else n_special
        kept = inside[: max_tokens - n_special]
        return [(0, 0)] * lead + kept + [(0, 0)] * (n_special - lead)

    def _framed(self, ids: list[int]) -> list[int]:
        """The ids between the tokenizer's special tokens; never empty."""
        empty = self._tokenizer.encode("", add_special_tokens=True).ids
        probe = self._tokenizer.encode("a", add_special_tokens=True)
        lead = probe.special_tokens_mask.index(0) if 0 in probe.special_tokens_mask else 0
        framed = [*empty[:lead], *ids, *empty[lead:]]
        return framed or [0]

    def _extend_tokens(self) -> None:
        """A head may be wider than the tokenizer: its spare rows get names of their own."""
        missing = range(len(self.tokens), len(self._embeddings))
        self.tokens += [f"[{number}]" for number in missing]
        del self.tokens[len(self._embeddings) :]


def model_folder(folder: Path) -> Path:
    """Where the transformers model lies: the folder, or a module of a sentence-transformers one.

    Raises `ModelError` when there is none.
    """
    listing = folder / "modules.json"
    if (folder / "config.json").is_file() and _names_a_model(folder / "config.json"):
        return folder
    places = [folder]
    if listing.is_file():
        modules = msgspec.json.decode(listing.read_bytes(), type=list[_Module])
        places += [folder / module.path for module in modules]
    # A Router keeps one folder a route: the documents' side has the model.
    places += sorted(place for place in folder.glob("document_*") if place.is_dir())
    for place in places:
        if (place / "config.json").is_file() and _names_a_model(place / "config.json"):
            return place
    raise ModelError(f"{folder.name} holds no transformers model")


def _names_a_model(config: Path) -> bool:
    return "model_type" in msgspec.json.decode(config.read_bytes(), type=dict[str, Any])


def _wanted(echo: bool) -> str:
    return "causal language" if echo else "masked language"

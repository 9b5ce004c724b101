"""Language models run by transformers on torch, behind the `LanguageModel` interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import ModelError, UnsafeModel
from rag.generate.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from rag.generate.limits import check_position, check_tokens
from rag.models.torch_runtime import quiet_transformers, threads_here, use_threads

if TYPE_CHECKING:
    import torch


class TorchModel:
    """A causal language model in memory; share it between threads, one context each."""

    def __init__(self, module: Any, tokenizer: ChatTokenizer, name: str) -> None:
        import torch

        self._module = module
        self._n_threads = torch.get_num_threads()
        self.name = name
        self.tokenizer = tokenizer
        self.context_length: int = module.config.max_position_embeddings
        self.vocabulary_size: int = module.config.vocab_size
        self.eos_ids = _eos_ids(module)

    def open_context(self) -> TorchContext:
        """A fresh, empty context with a key-value cache of its own."""
        return TorchContext(
            self._module, self.context_length, self.vocabulary_size, self._n_threads
        )


class TorchContext:
    """One sequence and its key-value cache; see `rag.generate.language_model.Context`."""

    def __init__(
        self, module: Any, context_length: int, vocabulary_size: int, n_threads: int
    ) -> None:
        from transformers import DynamicCache

        self._module = module
        self._context_length = context_length
        self._vocabulary_size = vocabulary_size
        self._n_threads = n_threads
        # Without a config every layer keeps all its keys, also those with a sliding window (the
        # attention mask hides what is too old): so any crop can be undone by feeding again.
        self._cache = DynamicCache()
        self._position = 0

    @property
    def position(self) -> int:
        """Tokens held in the cache."""
        return self._position

    @property
    def n_bytes(self) -> int:
        """Memory that the key-value cache takes."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self._cache.layers)

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        """Append tokens; float32 logits `[len(token_ids) or 1, vocabulary]`, on the device."""
        import torch

        check_tokens(
            token_ids,
            self._position,
            context_length=self._context_length,
            vocabulary_size=self._vocabulary_size,
        )
        with torch.inference_mode(), threads_here(self._n_threads):
            ids = torch.tensor([token_ids], dtype=torch.long, device=self._module.device)
            output = self._module(
                input_ids=ids,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1 if last_only else 0,
            )
        self._position += len(token_ids)
        logits: torch.Tensor = output.logits[0]
        return logits.float()

    def crop(self, position: int) -> None:
        """Forget every token after the first `position`."""
        check_position(position, self._position, "crop to")
        if position < self._position:
            self._cache.crop(position - self._position)
            self._position = position

    def fork(self, position: int) -> TorchContext:
        """A context of its own that holds the first `position` tokens of this one."""
        check_position(position, self._position, "fork at")
        other = TorchContext(
            self._module, self._context_length, self._vocabulary_size, self._n_threads
        )
        if position:
            for index, layer in enumerate(self._cache.layers):
                keys, values = (
                    kept[:, :, :position].clone() for kept in (layer.keys, layer.values)
                )
                other._cache.update(keys, values, index)
        other._position = position
        return other


def load_torch_model(
    folder: Path, *, name: str, device: str = "cpu", n_threads: int = 0
) -> TorchModel:
    """Load safetensors weights and the tokenizer from a local `folder`; nothing is downloaded.

    float32 on a CPU, elsewhere the dtype of the files; SDPA attention. `n_threads` sets torch's
    thread count, which is process-wide. Raises `UnsafeModel` when the folder has weights but none
    in safetensors, `ModelError` when it cannot be loaded otherwise.
    """
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
            raise UnsafeModel(f"{folder} holds pickled weights only: safetensors are needed")
        raise ModelError(f"{folder} holds no safetensors weights")
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    use_threads(n_threads)
    try:
        with quiet_transformers():
            module = AutoModelForCausalLM.from_pretrained(
                folder,
                use_safetensors=True,
                dtype=torch.float32 if device == "cpu" else "auto",
                attn_implementation="sdpa",
                local_files_only=True,
                trust_remote_code=False,
            )
            module = module.to(device).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the language model in {folder}: {error}") from error
    return TorchModel(module, load_chat_tokenizer(folder), name)


def _eos_ids(module: Any) -> frozenset[int]:
    """What ends a text, by the same rule as transformers' `generate`: the generation config."""
    eos = module.generation_config.eos_token_id
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)

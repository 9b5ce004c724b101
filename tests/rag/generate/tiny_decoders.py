"""Tiny random decoders of every architecture that has a graph; their heads are 16 wide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

N_TOKENS = 258
WINDOW = 4
SIZES: dict[str, Any] = {
    "vocab_size": N_TOKENS,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 600,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": N_TOKENS - 1,
}
KINDS = ("llama", "llama-tied", "llama-biased", "mistral", "qwen2")


def make_tiny_decoder(kind: str, *, seed: int = 1) -> PreTrainedModel:
    """A random model; biases and norms are random too, so that leaving one out is seen."""
    torch.manual_seed(seed)
    if kind == "mistral":
        model: Any = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW))
    elif kind == "qwen2":
        sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}
        model = Qwen2ForCausalLM(Qwen2Config(**sizes))
    else:
        config = LlamaConfig(
            **SIZES,
            rope_theta=500.0,
            tie_word_embeddings=kind == "llama-tied",
            attention_bias=kind == "llama-biased",
        )
        model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
        elif "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
    return model.eval()


def save_tiny_decoder(folder: Path, kind: str, *, seed: int = 1) -> Path:
    """The model and a byte tokenizer in `folder`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    make_tiny_decoder(kind, seed=seed).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(models.BPE({ch: id_ for id_, ch in enumerate(alphabet)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(
        [AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")]
    )
    PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|im_end|>").save_pretrained(folder)
    return folder

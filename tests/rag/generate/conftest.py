"""Tiny random models saved to a folder, and the real default generator where it was pulled."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from indexes.errors import ModelError
from rag.generate.torch_model import TorchModel, load_torch_model
from rag.models.resolver import resolve

sys.path.insert(0, str(Path(__file__).parent))

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)


def save_byte_tokenizer(folder: Path) -> int:
    """A byte-level tokenizer without merges; returns its vocabulary size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(models.BPE({ch: id_ for id_, ch in enumerate(alphabet)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(
        [AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|im_end|>")
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
    return fast.get_vocab_size()


def save_tiny_llama(folder: Path, *, seed: int, context_length: int = 64) -> None:
    """A randomly initialised two-layer Llama over bytes; the wide spread makes it opinionated."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    n_tokens = save_byte_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context_length,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=n_tokens - 1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def save_tiny_mistral(folder: Path, *, seed: int) -> None:
    """The same with a sliding window of four tokens."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    n_tokens = save_byte_tokenizer(folder)
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=n_tokens,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        sliding_window=4,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=n_tokens - 1,
    )
    MistralForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-llama")
    save_tiny_llama(folder, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> TorchModel:
    return load_torch_model(tiny_folder, name="tiny")


@pytest.fixture(scope="session")
def tiny_long_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-long")
    save_tiny_llama(folder, seed=1, context_length=1000)
    return folder


@pytest.fixture(scope="session")
def tiny_sliding(tmp_path_factory: pytest.TempPathFactory) -> TorchModel:
    folder = tmp_path_factory.mktemp("tiny-mistral")
    save_tiny_mistral(folder, seed=2)
    return load_torch_model(folder, name="tiny-sliding")


@pytest.fixture(scope="session")
def smollm2() -> TorchModel:
    """The default generator, which `make test` pulls before the tests."""
    cache = Path(os.environ.get("RAG_CACHE") or user_cache_path("evident"))
    try:
        resolved = resolve("smollm2-135m-instruct", cache)
    except ModelError as error:
        pytest.skip(f"absent: {error}")
    return load_torch_model(resolved.folder, name=resolved.name)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """For modules of tiny models."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def torch_threads(request: pytest.FixtureRequest) -> None:
    """One thread for tiny models, which lose by more; all cores for the real one."""
    names = {"tiny", "tiny_sliding", "smollm2"} & set(request.fixturenames)
    if names:
        import torch

        torch.set_num_threads((os.cpu_count() or 1) if "smollm2" in names else 1)

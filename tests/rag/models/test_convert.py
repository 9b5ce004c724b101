from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quantize
from platformdirs import user_cache_path
from safetensors import safe_open
from wheel_shelf import Notes

from indexes.errors import ModelError
from indexes.files import sha256_of
from rag.models.convert import convert_gguf, is_converted
from rag.models.resolver import resolve

N_HEADS, N_KV_HEADS, WIDTH, FEED_FORWARD, N_LAYERS = 4, 2, 64, 96, 2
LAYER = {
    "attn_q": ("self_attn.q_proj", (WIDTH, WIDTH)),
    "attn_k": ("self_attn.k_proj", (WIDTH // 2, WIDTH)),
    "attn_v": ("self_attn.v_proj", (WIDTH // 2, WIDTH)),
    "attn_output": ("self_attn.o_proj", (WIDTH, WIDTH)),
    "ffn_gate": ("mlp.gate_proj", (FEED_FORWARD, WIDTH)),
    "ffn_up": ("mlp.up_proj", (FEED_FORWARD, WIDTH)),
    "ffn_down": ("mlp.down_proj", (WIDTH, FEED_FORWARD)),
    "attn_norm": ("input_layernorm", (WIDTH,)),
    "ffn_norm": ("post_attention_layernorm", (WIDTH,)),
}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_tiny_gguf(path: Path) -> None:
    """A random quantised Llama with a byte vocabulary, as llama.cpp's converter writes one."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_alphabet(), "ĊĊ", "ab"]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["Ċ Ċ", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(7)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(N_LAYERS):
        shapes |= {f"blk.{layer}.{name}": shape for name, (_, shape) in LAYER.items()}
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def assert_equal_weights(gguf: Path, converted: Path, n_heads: int, n_kv_heads: int) -> int:
    """Every tensor equals the GGUF's, dequantised by the reference library. Returns how many."""
    reader = GGUFReader(gguf)
    with safe_open(converted / "model.safetensors", framework="numpy") as weights:
        names = set(weights.keys())
        for tensor in reader.tensors:
            expected = dequantize(tensor.data, tensor.tensor_type)
            stem = tensor.name.removesuffix(".weight")
            if stem in OUTER:
                name = f"{OUTER[stem]}.weight"
            else:
                _, layer, kind = stem.split(".")
                name = f"model.layers.{layer}.{LAYER[kind][0]}.weight"
                heads = {"attn_q": n_heads, "attn_k": n_kv_heads}.get(kind)
                expected = expected if heads is None else interleaved(expected, heads)
            actual = weights.get_tensor(name)
            assert actual.dtype == np.float32
            np.testing.assert_array_equal(actual, expected, err_msg=name)
            names.remove(name)
        assert not names
    return len(reader.tensors)


def interleaved(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """From llama.cpp's order of rotary pairs (2i, 2i+1) to (i, i + half), head by head."""
    size = len(rows) // n_heads
    order = [
        head * size + pair * 2 + side
        for head in range(n_heads)
        for side in range(2)
        for pair in range(size // 2)
    ]
    return rows[order]


@pytest.mark.slow
def test_a_conversion_keeps_numbers_tokenizer_and_template(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf, target, notes = tmp_path / "tiny.gguf", tmp_path / "out" / "float32", Notes()
    write_tiny_gguf(gguf)
    digest = sha256_of(gguf)
    convert_gguf(gguf, target, name="tiny", sha256=digest, progress=notes)
    assert [note.partition(":")[0] for note in notes.notes] == ["tiny", "tiny"]

    assert_equal_weights(gguf, target, N_HEADS, N_KV_HEADS)
    model = AutoModelForCausalLM.from_pretrained(target, local_files_only=True)
    assert model.config.max_position_embeddings == 128
    assert model.generation_config.eos_token_id == 2
    tokenizer = AutoTokenizer.from_pretrained(target, local_files_only=True)
    assert tokenizer.chat_template == TEMPLATE
    # Whitespace before a digit is split off first, as in training, so its own merge applies.
    assert tokenizer.tokenize("a\n\n12") == ["a", "ĊĊ", "1", "2"]

    assert is_converted(target, digest, verify=True)
    assert not is_converted(target, "0" * 64)
    weights = bytearray((target / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (target / "model.safetensors").write_bytes(weights)
    assert is_converted(target, digest)
    assert not is_converted(target, digest, verify=True)
    (target / "model.safetensors").write_bytes(weights[:-1])
    assert not is_converted(target, digest)

    cache = tmp_path / "cache"
    model_of_file = resolve(str(gguf), cache)
    assert (model_of_file.name, model_of_file.kind) == ("tiny", "generator")
    assert model_of_file.gguf == gguf
    assert resolve(str(tmp_path), cache).folder == model_of_file.folder


@pytest.mark.parametrize("keep", [0, 3, 30, 2000])
def test_a_gguf_cut_short(tmp_path: Path, keep: int) -> None:
    gguf = tmp_path / "tiny.gguf"
    write_tiny_gguf(gguf)
    gguf.write_bytes(gguf.read_bytes()[:keep])
    with pytest.raises(ModelError):
        convert_gguf(gguf, tmp_path / "out", name="tiny", sha256="0" * 64)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_default_generator_equals_its_gguf() -> None:
    cache = Path(os.environ.get("RAG_CACHE") or user_cache_path("evident"))
    try:
        model = resolve("smollm2-135m-instruct", cache)
    except ModelError as error:
        pytest.skip(f"absent: {error}")
    assert model.gguf is not None
    assert assert_equal_weights(model.gguf, model.folder, n_heads=9, n_kv_heads=3) == 272

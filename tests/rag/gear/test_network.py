"""The network: it begins as its base, and retrieval needs none of what fusion adds."""

from __future__ import annotations

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_gear import toy_network

from indexes.errors import Conflict, ModelError
from rag.gear.fusion import Memory
from rag.gear.network import open_bi_encoder, open_network, pooled, save_network
from rag.models.bert_layers import load_encoder, padded
from rag.models.resolver import resolve

ROWS = [[4, 9, 12, 7, 5], [4, 8, 5], [4, 5]]


@pytest.fixture
def saved(base, tmp_path):
    digest = resolve(str(base), tmp_path / "cache").sha256
    save_network(toy_network(base, base_sha256=digest), tmp_path / "gear", torch.float32)
    return tmp_path / "gear"


def opened(folder, tmp_path):
    return resolve(str(folder), tmp_path / "cache"), tmp_path / "cache", "cpu"


def test_before_training_it_retrieves_as_its_base(base):
    ids, mask = padded(ROWS, 0, "cpu")
    encoder = load_encoder(base)
    expected = encoder.run(encoder.embed(ids), mask)
    found = toy_network(base).encoder.states(ids, mask)
    assert torch.allclose(found[mask], expected[mask], atol=1e-5)


def test_with_closed_gates_fusion_is_the_question_encoder(base):
    network = toy_network(base)
    for block in network.fusion.blocks:
        block.gate.zero_()
    ids, mask = padded(ROWS, 0, "cpu")
    memory = Memory(torch.randn(3, 7, 16), None)
    fused = network.fuse(ids, mask, memory)
    assert torch.allclose(fused.states[mask], network.encoder.states(ids, mask)[mask], atol=1e-5)
    for attention in fused.attention:
        assert torch.allclose(attention.sum(-1), torch.ones(3, 2, 5), atol=1e-5)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_documents_are_looked_at_as_they_are_after_a_layer(base, layer):
    network = toy_network(base, n_shared=1, memory_layer=layer)
    ids, mask = padded(ROWS, 0, "cpu")
    encoder = load_encoder(base)
    expected = encoder.run(encoder.embed(ids), mask, 0, layer)
    states, read = network.memory(network.encoder.shared(ids, mask), mask)
    assert torch.allclose(states[mask], expected[mask], atol=1e-5)
    assert read is mask
    last = toy_network(base, n_shared=1)
    assert torch.equal(
        network.encoder.states(ids, mask)[mask], last.encoder.states(ids, mask)[mask]
    )


@pytest.mark.parametrize("layer", [1, 4])
def test_no_layer_below_the_own_ones_nor_above_the_last_is_looked_at(base, layer):
    with pytest.raises(ModelError, match="is not among 2 to 3"):
        toy_network(base, memory_layer=layer)


def test_padding_of_documents_gets_no_attention_and_changes_nothing(base):
    network = toy_network(base)
    ids, _ = padded([ROWS[0]], 0, "cpu")
    states = torch.randn(1, 6, 16)
    alone = network.fuse(ids, None, Memory(states, None))
    more = torch.cat([states, torch.randn(1, 3, 16)], 1)
    mask = torch.tensor([[True] * 6 + [False] * 3])
    wide = network.fuse(ids, None, Memory(more, mask))
    assert torch.allclose(alone.states, wide.states, atol=1e-5)
    assert all(float(attention[..., 6:].sum()) == 0 for attention in wide.attention)


def test_what_was_saved_is_opened_again(base, saved, tmp_path):
    network, tokenizer = open_network(*opened(saved, tmp_path))
    assert tokenizer == base
    for name, tensor in toy_network(base).tensors().items():
        assert torch.equal(network.tensors()[name], tensor), name


def test_vectors_are_the_same_with_the_fusion_parts_deleted(saved, tmp_path):
    ids, mask = padded(ROWS, 0, "cpu")
    whole = open_bi_encoder(*opened(saved, tmp_path)).states(ids, mask)
    file = saved / "model.safetensors"
    kept = {name: t for name, t in load_file(file).items() if name.startswith("encoder.layer.")}
    assert 0 < len(kept) < len(load_file(file))
    save_file(kept, file)
    rest = open_bi_encoder(*opened(saved, tmp_path)).states(ids, mask)
    assert torch.equal(pooled(whole, mask), pooled(rest, mask))
    with pytest.raises(ModelError, match="not there"):
        open_network(*opened(saved, tmp_path))


def test_half_precision_halves_the_file_and_hardly_changes_vectors(base, saved, tmp_path):
    network, _ = open_network(*opened(saved, tmp_path))
    save_network(network, tmp_path / "half")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (saved, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    ids, mask = padded(ROWS, 0, "cpu")
    one = pooled(network.encoder.states(ids, mask), mask)
    other = pooled(open_bi_encoder(*opened(tmp_path / "half", tmp_path)).states(ids, mask), mask)
    assert torch.allclose(one, other, atol=5e-3)


def test_another_base_is_a_conflict(saved, tmp_path):
    config = saved / "config.json"
    fields = msgspec.json.decode(config.read_bytes()) | {"base_sha256": "0" * 64}
    config.write_bytes(msgspec.json.encode(fields))
    with pytest.raises(Conflict, match="trained over"):
        open_bi_encoder(*opened(saved, tmp_path))


def test_a_folder_of_another_kind_is_no_gear(base, tmp_path):
    with pytest.raises(ModelError, match="no GeAR model"):
        open_bi_encoder(*opened(base, tmp_path))


def test_the_decoder_sees_no_word_to_come(base):
    network = toy_network(base)
    memory = Memory(torch.randn(1, 4, 16), None)
    short = network.decode(torch.tensor([[1, 9, 8]]), memory)
    long = network.decode(torch.tensor([[1, 9, 8, 20, 21]]), memory)
    assert torch.allclose(short, long[:, :3], atol=1e-5)

"""The encoder in layers against transformers' own, and parts of it against the whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from indexes.errors import ModelError, Unsupported
from rag.models import bert_layers, packed_layers
from rag.models.bert_layers import (
    BertEncoder,
    BertLayer,
    copy_tensors,
    load_encoder,
    padded,
    read_tensors,
)

ROWS = [[2, 5, 6, 7, 3], [2, 8, 3], [2, 3]]


def save(folder: Path, *, head: bool = False, **changes: object) -> Path:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    model = BertForMaskedLM(config) if head else BertModel(config)
    model.save_pretrained(folder)
    if changes:
        file = folder / "config.json"
        file.write_bytes(msgspec.json.encode(msgspec.json.decode(file.read_bytes()) | changes))
    return folder


@pytest.mark.parametrize("head", [False, True])
def test_states_are_those_of_transformers(tmp_path: Path, head: bool) -> None:
    folder = save(tmp_path, head=head)
    encoder = load_encoder(folder)
    ids, mask = padded(ROWS, 0, "cpu")
    assert mask is not None
    with torch.no_grad():
        theirs = BertModel.from_pretrained(folder).eval()(ids, mask.long()).last_hidden_state
        ours = encoder.run(encoder.embed(ids), mask)
    torch.testing.assert_close(ours[mask], theirs[mask], atol=2e-6, rtol=1e-5)


def test_shared_lower_and_own_upper_layers_make_the_whole(tmp_path: Path) -> None:
    encoder = load_encoder(save(tmp_path))
    upper = encoder.upper(3)
    ids, mask = padded(ROWS, 0, "cpu")
    with torch.no_grad():
        embedded = encoder.embed(ids)
        whole = encoder.run(embedded, mask)
        parts = upper.run(encoder.run(embedded, mask, 0, 3), mask)
        assert torch.equal(parts, whole)
        for parameter in upper.parameters():
            parameter.add_(0.1)
        assert torch.equal(encoder.run(embedded, mask), whole), "the copy must be its own"
        assert not torch.allclose(upper.run(encoder.run(embedded, mask, 0, 3), mask), whole)


def test_weights_go_by_their_published_names(tmp_path: Path) -> None:
    encoder = load_encoder(save(tmp_path))
    found = read_tensors(tmp_path)
    names = {name for name in found if name.startswith(("encoder.", "embeddings."))}
    assert set(encoder.published()) == names
    assert set(encoder.upper(2).published()) < names


def test_padding_changes_nothing(tmp_path: Path) -> None:
    encoder = load_encoder(save(tmp_path))
    ids, mask = padded(ROWS, 0, "cpu")
    with torch.no_grad():
        together = encoder.run(encoder.embed(ids), mask)
        for number, row in enumerate(ROWS):
            alone_ids, alone_mask = padded([row], 0, "cpu")
            assert alone_mask is None
            alone = encoder.run(encoder.embed(alone_ids), None)[0]
            torch.testing.assert_close(together[number, : len(row)], alone, atol=1e-6, rtol=1e-5)


def test_what_is_no_plain_bert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="relu"):
        load_encoder(save(tmp_path / "relu", hidden_act="relu"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(Unsupported, match="no BERT"):
        load_encoder(other)


def test_missing_and_misshapen_weights_are_told(tmp_path: Path) -> None:
    encoder: BertEncoder = load_encoder(save(tmp_path))
    found = read_tensors(tmp_path)
    name = "encoder.layer.1.output.dense.weight"
    with pytest.raises(ModelError, match=f"{name} .* not there"):
        copy_tensors({key: found[key] for key in found if key != name}, encoder.published())
    with pytest.raises(ModelError, match=name):
        copy_tensors(found | {name: found[name].T}, encoder.published())


@pytest.mark.parametrize("n_rows", [1, 3])
def test_sealed_layers_read_short_texts_packed_to_the_same_states(
    tmp_path: Path, n_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path)
    plain, sealed = load_encoder(folder), load_encoder(folder)
    sealed.stack.seal()
    ids, mask = padded(ROWS[:n_rows], 0, "cpu")
    with torch.inference_mode():
        expected = plain.run(plain.embed(ids), mask, 1, 3)
        # The plain layers must not be asked: what they say from now on is wrong.
        monkeypatch.setattr(BertLayer, "forward", lambda *_: None)
        found = sealed.run(sealed.embed(ids), mask, 1, 3)
    kept = slice(None) if mask is None else mask
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-6, rtol=1e-5)


def test_long_texts_and_gradients_meet_the_plain_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(save(tmp_path))
    encoder.stack.seal()
    monkeypatch.setattr(bert_layers, "PackedLayer", None)
    monkeypatch.setattr(packed_layers, "SHORT_TOKENS", 4)
    ids, mask = padded(ROWS, 0, "cpu")
    with torch.inference_mode():
        encoder.run(encoder.embed(ids), mask)
    monkeypatch.setattr(packed_layers, "SHORT_TOKENS", 400)
    states = encoder.embed(ids).detach().requires_grad_()
    encoder.run(states, mask).sum().backward()
    assert states.grad is not None
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        encoder.run(encoder.embed(ids), mask)

"""SPLADE: pooling against its formula, layouts that load, pruning, and where a weight came from."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from indexes.errors import ModelError, UnsafeModel, UsageError
from rag.models.resolver import ResolvedModel
from rag.retrievers.max_pooling import pool
from rag.retrievers.retriever import parse_spec
from rag.retrievers.splade import SpladeRetriever, largest, splade_entry

WORDS = ["cat", "dog", "fish", "bird", "tree", "river", "stone", "cloud", "##s", "."]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(0, 2**31 - 1),
    st.sampled_from(["max", "sum"]),
    st.sampled_from(["log1p_relu", "log1p_log1p_relu"]),
)
def test_pooling_equals_its_formula(n_rows, longest, seed, pooling, activation):
    random_ = np.random.default_rng(seed)
    hidden = torch.tensor(random_.standard_normal((n_rows, longest, 8)), dtype=torch.float32)
    embeddings = torch.tensor(random_.standard_normal((301, 8)), dtype=torch.float32)
    bias = torch.tensor(random_.standard_normal(301), dtype=torch.float32)
    lengths = torch.tensor(random_.integers(1, longest + 1, n_rows))
    found = pool(hidden, lengths, embeddings, bias, pooling=pooling, activation=activation)
    for row in range(n_rows):
        logits = hidden[row, : lengths[row]] @ embeddings.t() + bias
        weights = torch.log1p(torch.relu(logits))
        if activation == "log1p_log1p_relu":
            weights = torch.log1p(weights)
        expected = weights.amax(0) if pooling == "max" else weights.sum(0)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)


@given(st.lists(st.floats(0, 5, width=32), min_size=1, max_size=20), st.integers(0, 22))
def test_pruning_keeps_the_largest(weights, n_terms):
    values = np.array(weights, dtype=np.float32)
    ids, held = largest(values, n_terms)
    positive = sorted((w for w in values if w > 0), reverse=True)
    assert sorted(held, reverse=True) == (positive[:n_terms] if n_terms else positive)
    assert (values[ids] == held).all()
    assert (np.diff(ids.astype(int)) > 0).all()


def tokenizer() -> Tokenizer:
    made = Tokenizer(
        models.WordPiece({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlm")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(VOCABULARY), intermediate_size=32, **SHAPE)
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def retriever(folder: Path, spec: str = "splade") -> SpladeRetriever:
    model = ResolvedModel(
        name="m",
        kind="sparse",
        folder=folder,
        revision="r",
        sha256="s",
        licence="none",
        source="folder",
    )
    return SpladeRetriever(splade_entry(parse_spec(spec), model), model, device="cpu")


def texts(n: int) -> list[str]:
    random_ = random.Random(5)
    return [" ".join(random_.choices(WORDS[:8], k=random_.randint(0, 30))) for _ in range(n)]


def weights_of(found: SpladeRetriever, text: str) -> dict[str, float]:
    (query,) = found.encode_queries([text])
    assert query.vector.sparse is not None
    return dict(zip(query.vector.sparse.terms, query.vector.sparse.weights, strict=True))


def reference(folder: Path, text: str) -> dict[str, float]:
    """SPLADE as the paper writes it, by the model's own head over all logits."""
    model = BertForMaskedLM.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer().encode(text).ids])
    with torch.no_grad():
        weights = torch.log1p(torch.relu(model(ids).logits[0])).amax(0)
    return {VOCABULARY[n]: float(w) for n, w in enumerate(weights) if w > 0}


def test_passages_equal_the_reference_whatever_their_batch(bert):
    many = texts(12)
    done: list[int] = []
    rows = retriever(bert).encode_passages(many, done.append).sparse
    assert rows is not None
    assert sum(done) == 12
    assert (rows.weights > 0).all()
    for number, text in enumerate(many):
        span = slice(rows.indptr[number], rows.indptr[number + 1])
        found = {
            rows.vocabulary[t]: w
            for t, w in zip(rows.term_ids[span], rows.weights[span], strict=True)
        }
        assert found == pytest.approx(reference(bert, text), abs=1e-5)


def test_queries_are_passages_and_say_when_they_were_cut(bert):
    found = retriever(bert, "splade:max_tokens=6:query_terms=3")
    long, short = found.encode_queries(["cat dog fish bird tree river", "cat dog"])
    assert (long.truncated, short.truncated) == (True, False)
    assert len(weights_of(found, "cat dog")) <= 3


def test_query_weights_may_need_no_model(bert, tmp_path):
    assert weights_of(retriever(bert, "splade:query=binary"), "Cats cat dog") == {
        "cat": 1.0,
        "##s": 1.0,
        "dog": 1.0,
    }
    with pytest.raises(ModelError, match=r"idf\.json"):
        retriever(bert, "splade:query=idf")
    folder = copied(bert, tmp_path / "opensearch")
    (folder / "idf.json").write_text(json.dumps({"cat": 3.5, "dog": 0.25, "fish": 1.0}))
    assert weights_of(retriever(folder, "splade:query=idf"), "cat dog tree") == {
        "cat": 3.5,
        "dog": 0.25,
    }


def copied(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_sentence_transformers_layouts_load(bert, tmp_path):
    home = tmp_path / "sparse-encoder"
    copied(bert, home / "0_MLMTransformer")
    modules = [
        {"idx": 0, "name": "0", "path": "0_MLMTransformer", "type": "MLMTransformer"},
        {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": "SpladePooling"},
    ]
    (home / "modules.json").write_text(json.dumps(modules))
    assert weights_of(retriever(home), "cat") == weights_of(retriever(bert), "cat")
    router = tmp_path / "router"
    copied(bert, router / "document_0_MLMTransformer")
    (router / "query_0_SparseStaticEmbedding").mkdir()
    table = np.arange(len(VOCABULARY), dtype=np.float32)
    save_file({"weight": table}, router / "query_0_SparseStaticEmbedding" / "model.safetensors")
    (router / "modules.json").write_text(json.dumps([{"path": "", "type": "Router"}]))
    assert weights_of(retriever(router, "splade:query=idf"), "cat dog") == {"cat": 5.0, "dog": 6.0}


def test_other_backbones_load(tmp_path):
    torch.manual_seed(1)
    config = DistilBertConfig(
        vocab_size=len(VOCABULARY), dim=16, n_layers=1, n_heads=2, hidden_dim=8
    )
    DistilBertForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    model = DistilBertForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer().encode("cat dog").ids])).logits[0]
    expected = torch.log1p(torch.relu(logits)).amax(0)
    found = weights_of(retriever(tmp_path), "cat dog")
    assert found == pytest.approx(
        {VOCABULARY[n]: float(w) for n, w in enumerate(expected) if w > 0}, abs=1e-5
    )


def test_echo_pools_over_the_second_reading(tmp_path):
    torch.manual_seed(2)
    config = LlamaConfig(vocab_size=len(VOCABULARY), intermediate_size=32, **SHAPE)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    found = retriever(tmp_path, "splade:echo=true")
    model = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    rows = found.encode_passages(["cat", "cat dog fish bird"], lambda _: None).sparse
    assert rows is not None
    for number, text in enumerate(["cat", "cat dog fish bird"]):
        ids = tokenizer().encode(text).ids
        with torch.no_grad():
            logits = model(torch.tensor([ids + ids])).logits[0, len(ids) :]
        expected = torch.log1p(torch.relu(logits)).amax(0)
        held = {VOCABULARY[n]: float(w) for n, w in enumerate(expected) if w > 0}
        span = slice(rows.indptr[number], rows.indptr[number + 1])
        got = {
            rows.vocabulary[t]: w
            for t, w in zip(rows.term_ids[span], rows.weights[span], strict=True)
        }
        assert got == pytest.approx(held, abs=1e-5)


def test_a_weight_knows_its_word(bert):
    found = retriever(bert)
    text = "A Cat, and dogs"
    model = BertForMaskedLM.from_pretrained(bert).eval()
    encoding = tokenizer().encode(text)
    with torch.no_grad():
        best = model(torch.tensor([encoding.ids])).logits[0].argmax(0)
    sources = {source.term: (source.start, source.end) for source in found.sources(text, WORDS)}
    for term in WORDS:
        place = int(best[VOCABULARY.index(term)])
        start, end = encoding.offsets[place]
        assert sources.get(term) == ((start, end) if end > start else None)


def test_what_cannot_be_used_says_so(bert, tmp_path):
    with pytest.raises(UsageError, match="splade"):
        retriever(bert, "splade:query=magic")
    with pytest.raises(UsageError, match="kind"):
        parse_spec("x=some/model:kind=odd")
    assert parse_spec("x=some/model:kind=splade").kind == "splade"
    with pytest.raises(ModelError, match="no transformers model"):
        retriever(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UnsafeModel):
        retriever(tmp_path)

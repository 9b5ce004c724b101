"""Published layouts load by their folder and give what sentence-transformers makes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from toy_checkpoints import (
    VOCABULARY,
    named,
    open_splade,
    paper,
    passage_weights,
    query_weights,
    save_tokenizer,
    toy_tokenizer,
)
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from indexes.analyzer import Analyzer
from indexes.errors import Conflict, ModelError, UnsafeModel, Unsupported, UsageError
from rag.config import Settings, load_settings
from rag.progress import Silent
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import parse_spec
from rag.retrievers.splade_layout import is_splade, read_layout

TEXT = "cat dogs . river"


def saved(encoder: SparseEncoder, folder: Path) -> Path:
    encoder.save(str(folder), create_model_card=False)
    return folder


def theirs(folder: Path, text: str, *, query: bool = False) -> dict[str, float]:
    encoder = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    encode = encoder.encode_query if query else encoder.encode_document
    return named(encode([text], convert_to_sparse_tensor=False)[0])


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_a_sparse_encoder_gives_its_own_vectors(bert, tmp_path, pooling, activation):
    modules = [
        Transformer(str(bert), transformer_task="fill-mask"),
        SpladePooling(pooling, activation),
    ]
    encoder = SparseEncoder(modules=modules, prompts={"query": "fish ", "document": ""})
    folder = saved(encoder, tmp_path / "encoder")
    assert is_splade(folder)
    found = open_splade(folder)
    assert passage_weights(found, [TEXT])[0] == pytest.approx(theirs(folder, TEXT), abs=1e-5)
    expected = theirs(folder, "cat", query=True)
    assert query_weights(found, "cat") == pytest.approx(expected, abs=1e-5)
    assert expected != pytest.approx(theirs(folder, "cat"), abs=1e-5)
    assert all(source.end <= 3 for source in found.query_sources("cat"))


def test_older_module_names_and_folders_load(bert, tmp_path):
    home = tmp_path / "older"
    copied(bert, home / "0_MLMTransformer")
    (home / "1_SpladePooling").mkdir()
    (home / "1_SpladePooling" / "config.json").write_text(
        json.dumps({"pooling_strategy": "max", "word_embedding_dimension": len(VOCABULARY)})
    )
    kind = "sentence_transformers.sparse_encoder.models."
    modules = [
        {"idx": 0, "path": "0_MLMTransformer", "type": f"{kind}MLMTransformer.MLMTransformer"},
        {"idx": 1, "path": "1_SpladePooling", "type": f"{kind}SpladePooling.SpladePooling"},
    ]
    (home / "modules.json").write_text(json.dumps(modules))
    assert passage_weights(open_splade(home), [TEXT])[0] == pytest.approx(
        paper(bert, TEXT), abs=1e-5
    )


def router(bert: Path, folder: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    weights = torch.linspace(-1, 3, len(VOCABULARY))
    routes = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(tokenizer, weights, frozen=True)],
        document_modules=[Transformer(str(bert), transformer_task="fill-mask"), SpladePooling()],
    )
    return saved(SparseEncoder(modules=[routes], similarity_fn_name="dot"), folder)


def test_a_router_with_learned_query_weights(bert, tmp_path):
    folder = router(bert, tmp_path / "router")
    assert is_splade(folder)
    found = open_splade(folder)
    assert found.entry.params["query"] == "idf"
    assert len(found.entry.params["query_sha256"]) == 64
    expected = theirs(folder, "oak tiger oak .", query=True)
    assert len(expected) == 3
    assert query_weights(found, "oak tiger oak .") == pytest.approx(expected, abs=1e-6)
    assert query_weights(found, "[PAD] [CLS]") == {}
    assert passage_weights(found, [TEXT])[0] == pytest.approx(paper(bert, TEXT), abs=1e-5)
    both = open_splade(folder, "splade:query=model")
    assert query_weights(both, TEXT) == pytest.approx(paper(bert, TEXT), abs=1e-5)


def test_a_router_may_point_at_its_own_folder_and_an_idf_file(bert, tmp_path):
    home = copied(bert, tmp_path / "opensearch")
    (home / "idf.json").write_text(json.dumps({"cat": 3.5, "dog": 0.25, "absent": 9}))
    query = home / "query_0_SparseStaticEmbedding"
    query.mkdir()
    (query / "config.json").write_text(json.dumps({"frozen": True, "path": "idf.json"}))
    pooling = home / "document_1_SpladePooling"
    pooling.mkdir()
    (pooling / "config.json").write_text(json.dumps({"activation_function": "log1p_relu"}))
    kind = "sentence_transformers.sparse_encoder.models"
    (home / "modules.json").write_text(
        json.dumps([{"idx": 0, "path": "", "type": "sentence_transformers.models.Router"}])
    )
    config = {
        "types": {
            query.name: f"{kind}.SparseStaticEmbedding",
            "": f"{kind}.MLMTransformer",
            pooling.name: f"{kind}.SpladePooling",
        },
        "structure": {"query": [query.name], "document": ["", pooling.name]},
    }
    (home / "router_config.json").write_text(json.dumps(config))
    found = open_splade(home)
    assert query_weights(found, "cat dog tree") == {"cat": 3.5, "dog": 0.25}
    expected = {term: float(np.log1p(weight)) for term, weight in paper(bert, TEXT).items()}
    assert passage_weights(found, [TEXT])[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("file", ["idf.json", "query_token_weights.txt"])
def test_a_table_beside_a_plain_model(bert, tmp_path, file):
    home = copied(bert, tmp_path / "plain")
    weights = {"cat": 3.5, "dog": 0.25, "fish": 1.0}
    lines = "".join(f"{token}\t{weight}\n" for token, weight in weights.items())
    (home / file).write_text(json.dumps(weights) if file == "idf.json" else lines)
    found = open_splade(home)
    assert found.entry.params["query"] == "idf"
    assert query_weights(found, "cats dog tree") == {"cat": 3.5, "dog": 0.25}
    pruned = open_splade(home, "splade:query_terms=1")
    assert query_weights(pruned, "cats dog tree") == {"cat": 3.5}


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "modernbert"])
def test_other_backbones_load(tmp_path, kind):
    torch.manual_seed(1)
    n, small = len(VOCABULARY), {"hidden_size": 16, "num_hidden_layers": 1}
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2}
    special |= {"sep_token_id": 3}
    heads = {"num_attention_heads": 2, "intermediate_size": 8}
    model = {
        "distilbert": lambda: DistilBertForMaskedLM(
            DistilBertConfig(vocab_size=n + 2, dim=16, n_layers=1, n_heads=2, hidden_dim=8)
        ),
        "roberta": lambda: RobertaForMaskedLM(
            RobertaConfig(vocab_size=n + 2, **small, **heads, **special)
        ),
        "modernbert": lambda: ModernBertForMaskedLM(
            ModernBertConfig(vocab_size=n + 2, **small, **heads, **special)
        ),
    }[kind]()
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    found = passage_weights(open_splade(tmp_path), [TEXT, "cat"])
    for text, mine in zip([TEXT, "cat"], found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([toy_tokenizer().encode(text).ids])).logits[0]
        names = [*VOCABULARY, f"[spare {n}]", f"[spare {n + 1}]"]
        weights = torch.log1p(torch.relu(logits)).amax(0)
        expected = {names[t]: float(w) for t, w in enumerate(weights) if w > 0}
        assert mine == pytest.approx(expected, abs=1e-5)


def settings_of(tmp_path: Path) -> Settings:
    return load_settings({"cache": str(tmp_path / "cache"), "n_threads": 1}, {})


def test_the_folder_decides_the_kind(bert, llama, tmp_path):
    settings = settings_of(tmp_path)
    entry = entry_of(parse_spec(f"mine={bert}:doc_terms=5"), settings, Silent())
    assert (entry.kind, entry.parts, entry.weighting) == ("splade", ["sparse"], "dot")
    assert entry.params == {
        "doc_terms": 5,
        "query": "model",
        "pooling": "max",
        "activation": "relu",
    }
    found = open_retriever(entry, Analyzer(), settings)
    rows = found.encode_passages([TEXT], lambda _: None).sparse
    assert rows is not None
    assert len(rows.term_ids) == 5
    dense = entry_of(parse_spec(f"mine={bert}:kind=dense"), settings, Silent())
    assert dense.kind == "dense"
    echo = entry_of(parse_spec(f"mine={llama}:kind=splade"), settings, Silent())
    assert echo.params["pooling"] == "echo"
    with pytest.raises(UsageError, match="kind=splade"):
        entry_of(parse_spec(f"mine={llama}"), settings, Silent())


def test_other_weights_or_another_table_than_the_index_was_built_with(bert, tmp_path):
    settings = settings_of(tmp_path)
    home = copied(bert, tmp_path / "model")
    (home / "idf.json").write_text(json.dumps({"cat": 3.5}))
    entry = entry_of(parse_spec(f"mine={home}"), settings, Silent())
    open_retriever(entry, Analyzer(), settings)
    (home / "idf.json").write_text(json.dumps({"cat": 1.5}))
    with pytest.raises(Conflict, match="query weights"):
        open_retriever(entry, Analyzer(), settings)
    changed = msgspec.structs.replace(entry, sha256="0" * 64)
    with pytest.raises(Conflict, match="built with"):
        open_retriever(changed, Analyzer(), settings)


def test_what_cannot_be_loaded_says_why(bert, tmp_path):
    with pytest.raises(ModelError, match="no table of query weights"):
        open_splade(bert, "splade:query=idf")
    headless = copied(bert, tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    with pytest.raises(UsageError, match="no head"):
        open_splade(headless)
    own_code = copied(bert, tmp_path / "own_code")
    (own_code / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(UnsafeModel):
        read_layout(own_code)
    odd = copied(bert, tmp_path / "odd")
    kind = "sentence_transformers.sparse_encoder.modules.SparseAutoEncoder"
    (odd / "modules.json").write_text(json.dumps([{"path": "", "type": kind}]))
    assert not is_splade(odd)
    with pytest.raises(Unsupported, match="SparseAutoEncoder"):
        open_splade(odd)
    (odd / "idf.json").write_text("[1]")
    (odd / "modules.json").unlink()
    with pytest.raises(ModelError, match=r"idf\.json"):
        open_splade(odd)


def test_a_head_that_does_more_than_a_product_is_noticed(llama, tmp_path, monkeypatch):
    from transformers import LlamaForCausalLM

    plain = LlamaForCausalLM.forward

    def capped(self, *args, **kwargs):
        found = plain(self, *args, **kwargs)
        found.logits = 2 * torch.tanh(found.logits / 2)
        return found

    monkeypatch.setattr(LlamaForCausalLM, "forward", capped)
    with pytest.raises(Unsupported, match="more than project"):
        open_splade(llama)

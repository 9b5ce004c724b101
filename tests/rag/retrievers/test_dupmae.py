"""The duplex retriever against its formulas, published layouts, and its halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_checkpoints import VOCABULARY, logits_of, toy_tokenizer
from toy_duplex import TEXTS, open_duplex, our_folder, sentence_encoder
from transformers import BertForMaskedLM, BertModel

from indexes.errors import Conflict, ModelError, UsageError
from indexes.representation import PassageVectors, QueryVector
from rag.config import Settings
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.retrievers.dupmae import dupmae_entry
from rag.retrievers.opening import entry_of
from rag.retrievers.retriever import parse_spec


@pytest.fixture
def base(bert: Path, tmp_path: Path) -> Path:
    return sentence_encoder(bert, tmp_path / "base")


@pytest.fixture
def ours(base: Path, tmp_path: Path) -> Path:
    return our_folder(base, tmp_path / "ours", tmp_path / "cache")


def terms_of(found: PassageVectors, number: int) -> dict[str, float]:
    rows = found.sparse
    assert rows is not None
    span = slice(*rows.indptr[number : number + 2])
    return {
        rows.vocabulary[t]: float(w)
        for t, w in zip(rows.term_ids[span], rows.weights[span], strict=True)
    }


def score(query: QueryVector, found: PassageVectors, number: int) -> float:
    """Both products by hand."""
    total = 0.0
    if query.dense is not None:
        assert found.dense is not None
        total += float(query.dense @ found.dense[number])
    if query.sparse is not None:
        held = terms_of(found, number)
        pairs = zip(query.sparse.terms, query.sparse.weights, strict=True)
        total += sum(weight * held.get(term, 0.0) for term, weight in pairs)
    return total


def nobody(_: int) -> None:
    """Progress that nobody follows."""


def test_a_published_masked_lm_loads_by_folder(bert: Path, tmp_path: Path) -> None:
    """RetroMAE and DupMAE publish BertForMaskedLM: its head, and [CLS] as it is."""
    retriever = open_duplex(bert, tmp_path / "cache", ":doc_terms=1000")
    assert retriever.entry.parts == ["sparse", "dense"]
    found = retriever.encode_passages(TEXTS, nobody)
    model = BertForMaskedLM.from_pretrained(bert).eval()
    assert found.dense is not None
    for number, text in enumerate(TEXTS):
        ids = toy_tokenizer().encode(text).ids
        with torch.no_grad():
            cls = model.bert(torch.tensor([ids])).last_hidden_state[0, 0]
        np.testing.assert_allclose(found.dense[number], cls.numpy(), atol=1e-5)
        weights = torch.log1p(torch.relu(logits_of(bert, ids)[1:-1])).amax(0)
        expected = {VOCABULARY[n]: float(w) for n, w in enumerate(weights) if w > 0}
        assert terms_of(found, number) == pytest.approx(expected, abs=1e-4)


def test_an_encoder_without_a_head_gives_cls_only_and_says_so(bert: Path, tmp_path: Path) -> None:
    """BGE and its kind: modules with [CLS] pooling and a normalisation, no head."""
    folder = sentence_encoder(bert, tmp_path / "bge", pooling="cls")
    notes: list[str] = []

    class Told(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    settings = Settings(cache=tmp_path / "cache")
    entry = entry_of(parse_spec(f"d={folder}:kind=dupmae"), settings, Told())
    assert entry.parts == ["dense"]
    assert any("only [CLS]" in note for note in notes)
    found = open_duplex(folder, tmp_path / "cache").encode_passages(TEXTS, nobody)
    assert found.sparse is None
    assert found.dense is not None
    ids = torch.tensor([toy_tokenizer().encode(TEXTS[0]).ids])
    with torch.no_grad():
        cls = BertModel.from_pretrained(folder).eval()(ids).last_hidden_state[0, 0]
    np.testing.assert_allclose(found.dense[0], (cls / cls.norm()).numpy(), atol=1e-5)
    with pytest.raises(UsageError, match="no head"):
        entry_of(parse_spec(f"d={folder}:kind=dupmae:part=lexical"), settings, Silent())


def test_both_is_the_sum_of_the_halves(ours: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    both, dense, lexical = (
        open_duplex(ours, cache, part) for part in ("", ":part=dense", ":part=lexical")
    )
    assert [r.entry.parts for r in (both, dense, lexical)] == [
        ["sparse", "dense"],
        ["dense"],
        ["sparse"],
    ]
    passages = [r.encode_passages(TEXTS, nobody) for r in (both, dense, lexical)]
    queries = [r.encode_queries(["a cat", "oak"]) for r in (both, dense, lexical)]
    for asked in zip(*queries, strict=True):
        for number in range(len(TEXTS)):
            whole, *parts = (
                score(q.vector, p, number) for q, p in zip(asked, passages, strict=True)
            )
            assert whole == pytest.approx(sum(parts), abs=1e-5)
    assert queries[0][0].vector.sparse is not None
    assert np.linalg.norm(queries[0][0].vector.sparse.weights) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(passages[0].dense, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_truncated_score_grows_to_the_full_one(ours: Path, tmp_path: Path) -> None:
    def scores(k: int) -> list[float]:
        retriever = open_duplex(ours, tmp_path / "cache", f":doc_terms={k}:query_terms=1000")
        found = retriever.encode_passages(TEXTS, nobody)
        assert all(len(terms_of(found, n)) <= k for n in range(len(TEXTS)))
        query = retriever.encode_queries(["cat tree fish"])[0].vector
        return [score(query, found, n) for n in range(len(TEXTS))]

    full = scores(len(VOCABULARY))
    before = [-np.inf] * len(TEXTS)
    for k in range(1, len(VOCABULARY)):
        now = scores(k)
        assert all(a <= b + 1e-6 for a, b in zip(before, now, strict=True))
        before = now
    assert before == pytest.approx(full, abs=1e-6)
    assert scores(1) != pytest.approx(full, abs=1e-3)


def test_padding_and_company_change_nothing(ours: Path, tmp_path: Path) -> None:
    together = open_duplex(ours, tmp_path / "cache").encode_passages(TEXTS, nobody)
    alone = open_duplex(ours, tmp_path / "cache", encode_batch_tokens=64)
    for number, text in enumerate(TEXTS):
        found = alone.encode_passages([text], nobody)
        np.testing.assert_allclose(found.dense[0], together.dense[number], atol=1e-5)
        assert terms_of(found, 0) == pytest.approx(terms_of(together, number), abs=1e-5)


def test_a_text_without_ordinary_tokens_has_no_terms(ours: Path, tmp_path: Path) -> None:
    retriever = open_duplex(ours, tmp_path / "cache")
    found = retriever.encode_passages(["", "cat"], nobody)
    assert terms_of(found, 0) == {}
    assert terms_of(found, 1)
    (query,) = retriever.encode_queries([""])
    assert query.vector.sparse is not None
    assert query.vector.sparse.terms == []


def logits_by_formula(ours: Path, base: Path, ids: list[int]) -> torch.Tensor:
    """E_j · head(h_i) + b_j + [x_i = j] softplus(table_j + v · h_i), `[ordinary tokens, V]`."""
    kept = {name: one.float() for name, one in load_file(ours / "model.safetensors").items()}
    model = BertModel.from_pretrained(base).eval()
    changed = {n: t for n, t in kept.items() if n.startswith("encoder.")}
    assert {n.split(".")[2] for n in changed} == {"1"}, "only the layer above the shared one"
    model.load_state_dict(changed, strict=False)
    table = model.embeddings.word_embeddings.weight.detach()
    head = "cls.predictions."
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0, 1:-1]
    inner = torch.nn.functional.gelu(
        states @ kept[f"{head}transform.dense.weight"].T + kept[f"{head}transform.dense.bias"]
    )
    headed = torch.nn.functional.layer_norm(
        inner,
        inner.shape[-1:],
        kept[f"{head}transform.LayerNorm.weight"],
        kept[f"{head}transform.LayerNorm.bias"],
        1e-12,
    )
    logits = headed @ table.T + kept[f"{head}bias"]
    for place, token in enumerate(ids[1:-1]):
        gate = kept["literal.table"][token] + states[place] @ kept["literal.direction"]
        logits[place, token] += torch.nn.functional.softplus(gate)
    return logits


def test_the_lexical_half_is_its_formula(ours: Path, base: Path, tmp_path: Path) -> None:
    """Its weights are max_i log1p(relu(logit_ij))."""
    retriever = open_duplex(ours, tmp_path / "cache", ":doc_terms=1000")
    found = retriever.encode_passages(TEXTS, nobody)
    for number, text in enumerate(TEXTS):
        logits = logits_by_formula(ours, base, toy_tokenizer().encode(text).ids)
        weights = torch.log1p(torch.relu(logits)).amax(0)
        expected = {VOCABULARY[n]: float(w) for n, w in enumerate(weights) if w > 0}
        assert terms_of(found, number) == pytest.approx(expected, abs=1e-3)


def test_a_term_comes_from_the_word_with_its_greatest_logit(
    ours: Path, base: Path, tmp_path: Path
) -> None:
    retriever = open_duplex(ours, tmp_path / "cache")
    found = retriever.encode_passages(TEXTS, nobody)
    queries = retriever.encode_queries(TEXTS)
    added = 0
    for number, text in enumerate(TEXTS):
        encoding = toy_tokenizer().encode(text)
        logits = logits_by_formula(ours, base, encoding.ids)
        sources = retriever.passage_sources(text)
        assert {s.term: s.weight for s in sources} == pytest.approx(terms_of(found, number))
        for source in sources:
            place = 1 + int(logits[:, VOCABULARY.index(source.term)].argmax())
            assert (source.start, source.end) == encoding.offsets[place]
            assert source.literal == (source.term in encoding.tokens[1:-1])
            added += not source.literal
        asked = queries[number].vector.sparse
        assert asked is not None
        told = {source.term: source.weight for source in retriever.query_sources(text)}
        assert told == pytest.approx(dict(zip(asked.terms, asked.weights, strict=True)))
    assert added
    assert retriever.passage_sources("") == []
    assert open_duplex(ours, tmp_path / "cache", ":part=dense").query_sources("cat") == []


def test_another_base_than_it_was_trained_on_is_refused(
    ours: Path, base: Path, bert: Path, tmp_path: Path
) -> None:
    model = BertModel.from_pretrained(base)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7] += 1
    model.save_pretrained(base)
    with pytest.raises(Conflict, match="goes on top of"):
        open_duplex(ours, tmp_path / "cache")


def test_damage_is_told(ours: Path, tmp_path: Path) -> None:
    config = ours / "config.json"
    config.write_text(config.read_text().replace('"dimension": 6', '"dimension": 7'))
    with pytest.raises(ModelError, match="projection"):
        open_duplex(ours, tmp_path / "cache")
    config.write_text(config.read_text().replace('"dimension": 7', '"dimension": "x"'))
    model = resolve(str(ours), tmp_path / "cache")
    with pytest.raises(ModelError, match="dimension"):
        dupmae_entry(parse_spec(f"d={ours}:kind=dupmae"), model, tmp_path / "cache")


def test_kind_auto_knows_our_folder(ours: Path, tmp_path: Path) -> None:
    settings = Settings(cache=tmp_path / "cache")
    assert entry_of(parse_spec(f"d={ours}"), settings, Silent()).kind == "dupmae"
    with pytest.raises(UsageError, match="parts"):
        entry_of(parse_spec(f"d={ours}:parts=both"), settings, Silent())

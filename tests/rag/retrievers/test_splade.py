"""SPLADE against its paper's formula, whatever the batch, the settings and the side."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_checkpoints import (
    VOCABULARY,
    WORDS,
    logits_of,
    named,
    open_splade,
    paper,
    passage_weights,
    query_weights,
    resolved,
    save_bert,
    toy_tokenizer,
)

from indexes.errors import ModelError, UsageError
from rag.retrievers.retriever import Explaining, parse_spec
from rag.retrievers.splade import splade_entry
from rag.retrievers.vocabulary_encoder import heaviest


def texts(n: int, seed: int = 5) -> list[str]:
    random_ = random.Random(seed)
    return [" ".join(random_.choices(WORDS[:8], k=random_.randint(0, 30))) for _ in range(n)]


@pytest.mark.slow
def test_passages_equal_the_paper_whatever_their_batch(bert):
    many = texts(24)
    expected = [paper(bert, text) for text in many]
    assert sum(len(weights) for weights in expected) > 48
    for batch_tokens in (32, 100, 4096):
        found = passage_weights(open_splade(bert, batch_tokens=batch_tokens), many)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-5)


def test_rows_are_sound_and_progress_adds_up(bert):
    done: list[int] = []
    rows = open_splade(bert).encode_passages(texts(9), done.append).sparse
    assert rows is not None
    assert sum(done) == rows.n_rows == 9
    assert rows.weights.dtype == np.float32
    assert (rows.weights > 0).all()
    assert rows.vocabulary == VOCABULARY
    for number in range(9):
        ids = rows.term_ids[rows.indptr[number] : rows.indptr[number + 1]]
        assert (np.diff(ids.astype(int)) > 0).all()


def test_no_text_is_an_empty_set_of_rows(bert):
    rows = open_splade(bert).encode_passages([], lambda _: None).sparse
    assert rows is not None
    assert rows.n_rows == len(rows.term_ids) == 0


def test_sum_pooling_and_the_double_logarithm(bert):
    text = "cat dogs . river"
    found = passage_weights(open_splade(bert, "splade:pooling=sum"), [text, "cat"])
    assert found[0] == pytest.approx(paper(bert, text, "sum"), abs=1e-5)
    twice = passage_weights(open_splade(bert, "splade:activation=log1p_relu"), [text])[0]
    expected = {term: float(np.log1p(weight)) for term, weight in paper(bert, text).items()}
    assert twice == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.floats(2**-20, 5, width=32), max_size=20), st.integers(0, 22))
def test_pruning_keeps_the_heaviest(weights, n_terms):
    values = np.array(weights, dtype=np.float32)
    ids, held = heaviest(np.arange(len(values), dtype=np.uint32), values, n_terms)
    expected = sorted(values, reverse=True)
    assert sorted(held, reverse=True) == (expected[:n_terms] if n_terms else expected)
    assert (values[ids] == held).all()
    assert (np.diff(ids.astype(int)) > 0).all()


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8))
def test_each_side_is_pruned_by_its_own_number(bert, doc_terms, query_terms):
    text = "cat dog fish bird tree"
    found = open_splade(bert, f"splade:doc_terms={doc_terms}:query_terms={query_terms}")
    by_weight = sorted(paper(bert, text).items(), key=lambda item: -item[1])
    assert passage_weights(found, [text])[0].keys() == dict(by_weight[:doc_terms]).keys()
    assert query_weights(found, text).keys() == dict(by_weight[:query_terms]).keys()


def test_a_long_query_says_that_it_was_cut(bert):
    found = open_splade(bert, "splade:max_tokens=6")
    long, short = found.encode_queries(["cat dog fish bird tree river", "cat dog"])
    assert (long.truncated, short.truncated) == (True, False)
    assert query_weights(found, "cat dog fish bird tree river") == pytest.approx(
        paper(bert, "cat dog fish bird"), abs=1e-5
    )


def test_binary_queries_are_their_distinct_tokens(bert):
    found = open_splade(bert, "splade:query=binary")
    assert query_weights(found, "Cats cat dog") == {"cat": 1.0, "##s": 1.0, "dog": 1.0}
    assert passage_weights(found, ["cat"])[0] == pytest.approx(paper(bert, "cat"), abs=1e-5)


def test_a_smaller_model_may_encode_queries(bert, tmp_path):
    small = save_bert(tmp_path / "small", seed=9, num_hidden_layers=1, hidden_size=8)
    found = open_splade(bert, "splade:query_model=small", queries=small)
    assert query_weights(found, "cat dog") == pytest.approx(paper(small, "cat dog"), abs=1e-5)
    assert passage_weights(found, ["cat"])[0] == pytest.approx(paper(bert, "cat"), abs=1e-5)
    entry = splade_entry(parse_spec("splade:query_model=small"), resolved(bert), resolved(small))
    assert entry.params["query_sha256"] == "s"


def test_another_vocabulary_cannot_encode_queries(bert, tmp_path):
    other = save_bert(tmp_path / "other", seed=1)
    text = (other / "tokenizer.json").read_text().replace('"oak"', '"elm"')
    (other / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match="another vocabulary"):
        open_splade(bert, "splade:query_model=other", queries=other)


def test_echo_pools_over_the_second_reading(llama):
    many = ["cat", "cat dog fish bird", "", "dog dog"]
    found = passage_weights(open_splade(llama), many)
    assert found[2] == {}
    for text, mine in zip(many, found, strict=True):
        ids = toy_tokenizer().encode(text, add_special_tokens=False).ids
        if ids:
            logits = logits_of(llama, [2, *ids, *ids])[1 + len(ids) :]
            assert len(logits) == len(ids)
            assert mine == pytest.approx(named(torch.log1p(torch.relu(logits)).amax(0)), abs=1e-5)


def test_a_causal_model_may_read_once(llama):
    found = passage_weights(open_splade(llama, "splade:pooling=max"), ["cat dog"])[0]
    logits = logits_of(llama, toy_tokenizer(causal=True).encode("cat dog").ids)
    assert found == pytest.approx(named(torch.log1p(torch.relu(logits)).amax(0)), abs=1e-5)


def test_a_weight_knows_its_word(bert):
    found = open_splade(bert)
    assert isinstance(found, Explaining)
    text = "Naïve CATS, dogs"  # [CLS] [UNK] cat ##s , dog ##s [SEP]
    places = [(0, 0), (0, 5), (6, 10), (6, 10), (10, 11), (12, 16), (12, 16), (0, 0)]
    ids = toy_tokenizer().encode(text).ids
    logits = logits_of(bert, ids)
    sources = found.passage_sources(text)
    assert {source.term for source in sources} == paper(bert, text).keys()
    for source in sources:
        number = VOCABULARY.index(source.term)
        place = int(logits[:, number].argmax())
        assert source.weight == pytest.approx(float(logits[place, number].log1p()), abs=1e-5)
        assert (source.start, source.end) == places[place]
        assert source.literal == (number in ids[1:-1])


def test_echo_knows_the_word_of_the_second_reading(llama):
    text = "cat dog fish"
    ids = toy_tokenizer().encode(text, add_special_tokens=False).ids
    logits = logits_of(llama, [2, *ids, *ids])[4:]
    sources = open_splade(llama).passage_sources(text)
    assert sources
    for source in sources:
        place = int(logits[:, VOCABULARY.index(source.term)].argmax())
        assert text[source.start : source.end] == text.split()[place]


def test_a_bag_of_words_points_at_its_words(bert):
    sources = open_splade(bert, "splade:query=binary").query_sources("The dogs")
    assert {(s.term, s.start, s.end) for s in sources if s.term != "[UNK]"} == {
        ("dog", 4, 8),
        ("##s", 4, 8),
    }
    assert all(source.literal for source in sources)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("splade:query=magic", "magic"),
        ("splade:doc_terms=-1", ">= 0"),
        ("splade:width=3", "width"),
        ("splade:pooling=echo", "causal"),
        ("splade:query=binary:query_model=x", "query_model"),
        ("x=some/model:kind=odd", "kind=odd"),
    ],
)
def test_what_contradicts_itself_is_refused(bert, spec, reason):
    with pytest.raises(UsageError, match=reason):
        splade_entry(parse_spec(spec), resolved(bert))

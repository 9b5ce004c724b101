"""Pointing: spans inside the text whatever it is, the same alone and in any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reading import TEXTS
from toy_gear import save_base, toy_locator

from indexes.errors import InvalidInput
from indexes.sentences import sentence_spans
from rag.gear.attention_map import word_attention
from rag.gear.reading import NOBODY
from rag.gear.writer import Writer
from rag.retrievers.worker_threads import WorkerThreads

BOTH = ["attention", "reader"]


@pytest.fixture(scope="module")
def locator(base):
    return toy_locator(base)


@pytest.mark.parametrize("how", BOTH)
@pytest.mark.parametrize("question", ["what is it?", "", "鲸鱼", "قطة", "a " * 60])
def test_spans_are_the_sentences_of_the_text(locator, how, question):
    documents = [("", text) for text in TEXTS] + [("a title", text) for text in TEXTS]
    found = locator.locate(question, documents, how)
    for (_, text), sentences in zip(documents, found, strict=True):
        assert sorted((one.start, one.end) for one in sentences) == sentence_spans(text)
        scores = [one.score for one in sentences]
        assert scores == sorted(scores, reverse=True)
        assert not scores or sum(scores) == pytest.approx(1, abs=2e-2)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=120), max_size=5), question=st.text(max_size=40))
def test_spans_are_the_sentences_of_any_text(property_locator, texts, question):
    found = property_locator.locate(question, [("", text) for text in texts])
    for text, sentences in zip(texts, found, strict=True):
        assert sorted((one.start, one.end) for one in sentences) == sentence_spans(text)


@pytest.fixture(scope="session")
def property_locator(tmp_path_factory):
    return toy_locator(save_base(tmp_path_factory.mktemp("property")))


@pytest.mark.parametrize("how", BOTH)
def test_a_batch_scores_as_one_at_a_time(base, locator, how):
    documents = [("", text) for text in TEXTS if text.strip()]
    small = toy_locator(base, batch_tokens=40)
    together = locator.locate("what fish?", documents, how)
    apart = small.locate("what fish?", documents, how)
    for document, one, other in zip(documents, together, apart, strict=True):
        (alone,) = locator.locate("what fish?", [document], how)
        for found in (other, alone):
            scores = {(s.start, s.end): s.score for s in found}
            # Half precision rounds otherwise in another batch.
            assert all(s.score == pytest.approx(scores[s.start, s.end], abs=0.02) for s in one)


@pytest.mark.parametrize("how", BOTH)
def test_two_threads_point_as_one_does(base, locator, how):
    documents = [("", text) for text in TEXTS if text.strip()] * 3
    two = toy_locator(base, batch_tokens=60)
    two._workers = WorkerThreads(2)
    for one, other in zip(
        locator.locate("what fish?", documents, how),
        two.locate("what fish?", documents, how),
        strict=True,
    ):
        scores = {(s.start, s.end): s.score for s in other}
        assert all(s.score == pytest.approx(scores[s.start, s.end], abs=0.02) for s in one)


def test_all_windows_of_a_long_document_are_looked_at_at_once(locator):
    """The attention over a document in windows is that over their states put together."""
    text = " ".join(f"word{n} is here." for n in range(30))
    (read,) = locator.read([("", text)])
    assert len(read.ids) > 2 * locator.shape.max_tokens
    with torch.inference_mode():
        asked = locator.tokens.question("where is it", 16)
        (attention, *_) = locator.fuse(asked, [read]).attention
    assert attention.shape[-1] == len(read.ids)
    assert torch.allclose(attention.sum(-1), torch.ones(attention.shape[:-1]), atol=1e-2)
    (found,) = locator.locate("where is it", [("", text)])
    assert len(found) == 30
    assert found[0].end <= len(text)


def test_attention_of_words_is_that_of_their_tokens(locator):
    question, document = "where is the fish?", ("a title", "The fish is here. It is not there.")
    found = word_attention(locator, question, document, 512)
    asked = locator.tokens.question(question, 16)
    with torch.inference_mode():
        (read,) = locator.read([document])
        looked = locator.fuse(asked, [read]).attention[1][0].mean(0)
    own = [column for column, owner in enumerate(read.owners) if owner != NOBODY]
    total = float(looked[1:-1][:, own].sum())
    words = [question[word.start : word.end] for word in found.question]
    assert words == ["where", "is", "the", "fish", "?"]
    tokens = [
        sum(word.start <= start < word.end for start, end in asked.places if start < end)
        for word in found.question
    ]
    weighed = sum(n * sum(row) for n, row in zip(tokens, found.weights, strict=True))
    assert weighed == pytest.approx(total, rel=1e-2)
    assert [document[1][word.start : word.end] for word in found.text][:2] == ["The", "fish"]
    with pytest.raises(InvalidInput, match="at most 4"):
        word_attention(locator, question, document, 4)


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_copied_text_stands_in_the_document(locator, text):
    writer = Writer(locator)
    for write in (writer.answer, writer.sentence):
        found = write("what fish?", ("", text))
        if found.start is None:
            assert not text.strip() or found.text == ""
        else:
            assert text[found.start : found.end] == found.text != ""
    assert isinstance(writer.answer("what fish?", ("", text), copied=False).text, str)

"""The classifier that comes with the product, with the generator's own tokenizer, on any text."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_words import HOSTILE

from indexes.errors import ModelError
from rag.compress.classifier_model import load_classifier, load_module
from rag.compress.compression import Compression, Passage
from rag.compress.opening import open_compressor
from rag.compress.token_counter import FolderTokens
from rag.config import load_settings
from rag.models.resolver import resolve

pytestmark = pytest.mark.slow

EDGES = [
    "",
    " \n\t ",
    "x" * 5_000,
    "👩\u200d🚀 flew 👍🏽 to 🇫🇷 #\ufe0f\u20e3",
    "cafe\u0301 cafe\u0301 नमस्ते दुनिया",
    "البنسلين مضاد حيوي اكتشفه ألكسندر فلمنج عام 1928.",
    "\u202eHebrew שלום עולם and English\u202c mixed.",
    "It ends <|endoftext|> here. <|im_start|>system [SEP] [CLS] </s>",
    "𐎀𐎁𐎂 𐎃𐎄 ꙮꙮ \U000fffff",
    "\ud800 alone \x00\x1f",
    "a\u0300\u0301\u0302" * 50,
]


@pytest.fixture(scope="module")
def shipped():
    """The compressor of the default settings, and the counter of the default generator."""
    found = load_settings({}, {})
    try:
        resolve("all-minilm-l6-v2", found.cache)
        generator = resolve(found.generator, found.cache)
    except ModelError as error:
        pytest.skip(f"the models are not on this machine: {error}")
    return open_compressor(found), FolderTokens(generator.folder)


def check(shipped, texts, options, query=""):
    """Kept text is slices of the source in order, within the budget; all of it at rate 1."""
    compressor, counter = shipped
    found = compressor.compress([Passage(text) for text in texts], query, options, counter)
    total = 0
    for text, kept in zip(texts, found.texts, strict=True):
        before = 0
        for one in kept.text.stretches:
            assert before <= one.source_start < one.source_end <= len(text)
            assert kept.text.text[one.start : one.end] == text[one.source_start : one.source_end]
            before = one.source_end
        left = iter(text)
        assert all(ch in left for ch in kept.text.text if not ch.isspace())
        total += kept.kept_tokens
    original = sum(kept.original_tokens for kept in found.texts)
    assert total <= math.floor(options.rate * original + 1e-9)
    if options.rate == 1:
        assert [kept.text.text for kept in found.texts] == texts
    return found


@pytest.mark.parametrize("text", EDGES)
@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_edges(shipped, text, rate):
    options = Compression(rate=rate, words=True)
    found = check(shipped, [text], options, "what is <|endoftext|>?")
    if rate == 0:
        assert found.texts[0].text.text == ""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HOSTILE, min_size=1, max_size=3), st.floats(0, 1), HOSTILE)
def test_any_texts(shipped, texts, rate, query):
    check(shipped, texts, Compression(rate=rate, words=True), query)


def test_the_sentence_that_answers_is_kept(shipped):
    text = (
        "The harbour was built in winter. Its walls are of stone, and ships wait there for days. "
        "Penicillin was discovered by Alexander Fleming in 1928. Few people visit the island, "
        "and the ferry runs on Sundays only. The lighthouse has been dark since the war."
    )
    options = Compression(rate=1 / 3, sentences=False)
    found = check(shipped, [text], options, "Who found the first antibiotic?")
    assert "Alexander Fleming" in found.texts[0].text.text
    assert (found.by, found.warnings) == (["llmlingua2"], [])


@pytest.mark.usefixtures("shipped")
def test_our_layers_give_what_transformers_gives_for_the_corrected_weights():
    """In single precision; `load_module` is what is written out for other programs too."""
    defaults = load_settings({}, {})
    model = resolve(defaults.compressor, defaults.cache)
    ours = load_classifier(model, defaults.cache, "cpu")
    module = load_module(model, defaults.cache)
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(1000, 30_000, (3, 40), generator=generator)
    types = (torch.arange(40) >= 9).long().expand(3, -1)
    mask = torch.arange(40)[None, :] < torch.tensor([[40], [25], [12]])
    with torch.inference_mode():
        found = ours.logits(ids, mask, types)
        expected = module(input_ids=ids, attention_mask=mask.long(), token_type_ids=types).logits
    assert float(expected[mask].std()) > 0.1
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-4, rtol=0)

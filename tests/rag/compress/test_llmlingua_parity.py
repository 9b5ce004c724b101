"""Against llmlingua 0.2.2 with the same local checkpoint: word probabilities and kept words.

Their chunking and their rule for what is kept are imitated here, from our scores. What we do
otherwise, because the reference is defective there:

* it pads and frames every chunk with BERT's special tokens, for XLM-R too, where they are unknown
  (`test_xlm_roberta` mends that in the reference before it compares);
* a chunk may have 511 tokens, whose last special token is then cut off (the texts here do not);
* it skips unknown words, so that they vanish;
* a lone `▁` of XLM-R is an empty word with a probability of its own;
* a digit after a word's first piece makes that piece's score 1, not the word's;
* a force token of several pieces is replaced by an unknown new token before it scores;
* chunks are joined without a space, and words by the tokenizer's spelling, not the source's.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from toy_classifiers import PROSE, classifier, save_bert

from rag.compress.compression import Compression
from rag.compress.selection import FORCED, NO_TOKEN, tiers

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LONG = " ".join(
    PROSE.replace("14", str(number)).replace("Geneva", f"town {number} of seven")
    for number in range(9)
)
ENDS = {".", "\n"}


class Fours:
    """Stands in for the vocabulary that tiktoken would download: four letters a token."""

    def encode(self, text):
        return [0] * -(-len(text) // 4)


@pytest.fixture(scope="module")
def llmlingua():
    import tiktoken

    patch = pytest.MonkeyPatch()
    patch.setattr(tiktoken, "encoding_for_model", lambda _: Fours())
    import llmlingua

    yield llmlingua
    patch.undo()


class Reference:
    """llmlingua with its words and word probabilities, in the order it computes them, noted."""

    def __init__(self, llmlingua, folder):
        self.compressor = llmlingua.PromptCompressor(
            str(folder), device_map="cpu", use_llmlingua2=True
        )
        self._merge = self.compressor._PromptCompressor__merge_token_to_word
        self._reduce = self.compressor._PromptCompressor__token_prob_to_word_prob
        self.compressor._PromptCompressor__merge_token_to_word = self._noting_words
        self.compressor._PromptCompressor__token_prob_to_word_prob = self._noting_scores

    def compress(self, text, **options):
        self.words, self.scores = [], []
        found = self.compressor.compress_prompt(text, return_word_label=True, **options)
        labels = found["fn_labeled_original_prompt"].split("\t\t|\t\t")
        return [int(label.rpartition(" ")[2]) for label in labels]

    def chunks(self, text):
        return self.compressor._PromptCompressor__chunk_context(text, ENDS)

    def _noting_words(self, *arguments, **options):
        found = self._merge(*arguments, **options)
        self.words.append(list(found[0]))
        return found

    def _noting_scores(self, token_probs, convert_mode="mean"):
        found = self._reduce(token_probs, convert_mode)
        self.scores.append([float(p) for p in found])
        return list(found)


def ours(scorer, chunk, options):
    """Words of a chunk, their scores with what is forced at 1, and which force token each is."""
    (scored,) = scorer.score([chunk], by=options.word_score)
    found, tokens = tiers(chunk, scored.words, options, [])
    scores = [1.0 if t >= FORCED else s for t, s in zip(found, scored.scores, strict=True)]
    return [chunk[start:end] for start, end in scored.words], scores, tokens


def kept_by_their_rule(words, scores, tokens, rate, *, drop_consecutive):
    """The threshold of `llmlingua.PromptCompressor.__compress`, and what passes it."""
    reduce_rate, scores = 1 - rate, list(scores)
    if drop_consecutive:
        threshold = np.percentile(scores, int(100 * reduce_rate))
        between, previous = False, NO_TOKEN
        for number, token in enumerate(tokens):
            if token == NO_TOKEN:
                between |= scores[number] > threshold
                continue
            if not between and token == previous:
                scores[number] = 0.0
            between, previous = False, token
    costed = [p for word, p in zip(words, scores, strict=True) for _ in Fours().encode(word)]
    threshold = np.percentile(costed, int(100 * reduce_rate + 1))
    labels, last = [], None
    for number, score in enumerate(scores):
        keep = score > threshold or (threshold == 1.0 == score)
        if drop_consecutive and tokens[number] != NO_TOKEN and last == tokens[number]:
            keep = False
        labels.append(int(keep))
        last = tokens[number] if keep else last
    return labels


CASES = [
    (0.5, {}),
    (0.33, {"token_to_word": "first"}),
    (0.33, {"force_tokens": [".", "!", "?", ","], "drop_consecutive": True}),
    (0.7, {"force_reserve_digit": True}),
    (0.2, {"force_tokens": ["the", "."], "force_reserve_digit": True}),
]


def compare(reference, scorer, text, rate, theirs):
    labels = reference.compress(text, rate=rate, chunk_end_tokens=list(ENDS), **theirs)
    options = Compression(
        word_score=theirs.get("token_to_word", "mean"),
        force_tokens=theirs.get("force_tokens", []),
        keep_digits=theirs.get("force_reserve_digit", False),
    )
    chunks = reference.chunks(text)
    assert len(chunks) == len(reference.words)
    expected = []
    for chunk, words, scores in zip(chunks, reference.words, reference.scores, strict=True):
        mine, found, tokens = ours(scorer, chunk, options)
        assert mine == [re.sub("^▁", "", word) for word in words]
        assert found == pytest.approx(scores, abs=1e-4)
        expected += kept_by_their_rule(
            mine, found, tokens, rate, drop_consecutive=theirs.get("drop_consecutive", False)
        )
    assert labels == expected
    assert 0 < sum(labels) < len(labels)


@pytest.mark.parametrize(("rate", "options"), CASES)
@pytest.mark.parametrize("text", [PROSE, LONG], ids=["short", "long"])
def test_bert(llmlingua, bert, bert_folder, rate, options, text):
    reference = Reference(llmlingua, bert_folder)
    compare(reference, bert, text, rate, options)
    assert (len(reference.words) > 1) == (text is LONG)


def test_bert_uncased(llmlingua, tmp_path):
    folder = save_bert(tmp_path / "bert-base-multilingual-cased", lower=True)
    text = PROSE.lower()
    compare(Reference(llmlingua, folder), classifier(folder), text, 0.5, {})


@pytest.mark.parametrize(("rate", "options"), CASES[:2])
def test_xlm_roberta(llmlingua, xlm_roberta, xlm_roberta_folder, rate, options, monkeypatch):
    dataset = llmlingua.prompt_compressor.TokenClfDataset
    monkeypatch.setattr(dataset.__init__, "__defaults__", (512, None, "xlm-roberta-large"))
    compare(
        Reference(llmlingua, xlm_roberta_folder),
        xlm_roberta,
        PROSE.replace(" (", " "),
        rate,
        options,
    )

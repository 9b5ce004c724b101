"""The whole compressor: ordered slices, exact budgets, and what is never dropped."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_words import HOSTILE
from toy_classifiers import PROSE

from rag.compress.compression import Compression, Passage
from rag.compress.compressor import NO_CLASSIFIER, OVER_BUDGET, Compressor
from rag.compress.word_scorer import ScoredWords
from rag.compress.words import Span, plain_words

MANY = " ".join(
    f"Sentence number {n} tells of the {thing} and of nothing else at all, as ever."
    for n, thing in enumerate(["river", "stone", "radium", "tower", "winter", "harbour"] * 8)
)
BLANK = re.compile(r"\s")


class Letters:
    """A generator's tokenizer: pieces of up to three characters, white space with what follows."""

    special_tokens = frozenset({"<|end|>"})

    def encode(self, text):
        return re.findall(r"\s?\S{1,3}|\s", text)

    def decode(self, token_ids):
        return "".join(token_ids)

    def chat(self, messages):
        return self.encode("\n".join(content for _, content in messages))


class Hashed:
    """Scores a word by its letters alone."""

    name = "hashed"

    def score(self, texts, question, by):
        found = []
        for text in texts:
            words = plain_words(text)
            scores = [sum(map(ord, text[a:b])) * 37 % 101 / 101 for a, b in words]
            found.append(ScoredWords(words, scores))
        return found


def compress(texts, options=None, *, query="", scorer=None, protected=(), scores=None):
    passages = [
        Passage(text, str(n), score=scores[n] if scores else 0.0) for n, text in enumerate(texts)
    ]
    return Compressor(scorer).compress(
        passages, query, options or Compression(), Letters(), protected
    )


def check_map(texts, found):
    for text, kept in zip(texts, found.texts, strict=True):
        before = 0
        for one in kept.text.stretches:
            assert before <= one.source_start < one.source_end
            assert kept.text.text[one.start : one.end] == text[one.source_start : one.source_end]
            before = one.source_end
        assert kept.original_tokens == len(Letters().encode(text))
        assert kept.kept_tokens == len(Letters().encode(kept.text.text))


def total(found):
    return sum(kept.kept_tokens for kept in found.texts)


OPTIONS = st.builds(
    Compression,
    rate=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    target_tokens=st.one_of(st.none(), st.integers(0, 40)),
    strict=st.booleans(),
    threshold=st.sampled_from(["global", "text"]),
    passages=st.booleans(),
    sentences=st.booleans(),
    words=st.sampled_from([None, True, False]),
    force_tokens=st.lists(st.sampled_from([".", "\n", "a", "'"]), max_size=2),
    keep_digits=st.booleans(),
    keep_citations=st.booleans(),
    keep_code=st.booleans(),
    drop_consecutive=st.booleans(),
    min_tokens=st.integers(0, 6),
)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HOSTILE, min_size=1, max_size=4), OPTIONS, HOSTILE, st.booleans(), st.data())
def test_any_texts_and_options(texts, options, query, with_scorer, data):
    hit = data.draw(st.integers(0, len(texts) - 1))
    place = sorted(data.draw(st.tuples(*[st.integers(0, len(texts[hit]))] * 2)))
    scores = data.draw(st.lists(st.floats(), min_size=len(texts), max_size=len(texts)))
    scorer = Hashed() if with_scorer else None
    protected = [(hit, Span(*place))]
    found = compress(texts, options, query=query, scorer=scorer, protected=protected, scores=scores)
    check_map(texts, found)
    original = sum(kept.original_tokens for kept in found.texts)
    budget = options.target_tokens
    if budget is None:
        budget = math.floor(options.rate * original + 1e-9)
    if options.strict or OVER_BUDGET not in found.warnings:
        assert total(found) <= budget
    if budget >= original:
        assert [kept.text.text for kept in found.texts] == texts
    if not options.strict and not options.drop_consecutive:
        span = Span(*place)
        for start, end in plain_words(texts[hit]):
            if max(start, span.start) < min(end, span.end):
                stretches = found.texts[hit].text.stretches
                assert any(s.source_start <= start and end <= s.source_end for s in stretches)
    for text, kept in zip(texts, found.texts, strict=True):
        least = min(options.min_tokens, kept.original_tokens)
        if not options.strict and not options.drop_consecutive and text.strip():
            assert kept.kept_tokens >= least


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.2, 1 / 3, 0.5, 0.8])
@pytest.mark.parametrize("scorer", [None, Hashed()])
@pytest.mark.parametrize("threshold", ["global", "text"])
def test_budgets_are_met_within_two_percent(rate, scorer, threshold):
    texts = [MANY, f"{PROSE} {PROSE}", MANY.upper()]
    options = Compression(rate=rate, threshold=threshold)
    found = compress(texts, options, query="harbour winter", scorer=scorer)
    check_map(texts, found)
    original = sum(kept.original_tokens for kept in found.texts)
    assert 0.98 * rate * original <= total(found) <= rate * original
    if threshold == "text":
        for kept in found.texts:
            assert kept.kept_tokens <= rate * kept.original_tokens
    for target in (61, 200, 397):
        options = Compression(target_tokens=target, threshold=threshold)
        left = total(compress(texts, options, scorer=scorer))
        assert 0.98 * target <= left <= target


def test_without_a_classifier_whole_sentences_of_the_question_are_kept():
    options = Compression(rate=0.1, words=True)
    found = compress([MANY], options, query="Which harbour in winter?")
    assert found.by == ["sentences"]
    assert found.warnings == [NO_CLASSIFIER]
    said = found.texts[0].text.text
    assert "harbour" in said
    assert "stone" not in said
    assert compress([MANY], Compression(words=False)).warnings == []
    assert compress([MANY], Compression(), query="Which harbour?").warnings == []


def test_the_classifier_runs_where_no_question_weighs_the_sentences():
    def parts(query="", **options):
        return compress([MANY], Compression(**options), query=query, scorer=Hashed()).by

    assert parts() == parts(" ") == ["hashed"]
    assert parts("harbour") == ["sentences"]
    assert parts("harbour", sentences=False) == ["hashed"]
    assert parts("harbour", words=True) == ["sentences", "hashed"]
    assert parts(words=False) == ["sentences"]


def test_words_of_one_sentence_stay_together_for_a_question():
    options = Compression(rate=0.3, words=True)
    found = compress([MANY], options, query="Which harbour in winter?", scorer=Hashed())
    alone = compress([MANY], Compression(rate=0.3), scorer=Hashed())
    assert len(found.texts[0].text.stretches) < 0.6 * len(alone.texts[0].text.stretches)
    assert "harbour" in found.texts[0].text.text


def test_a_sentence_scorer_is_asked_for_questions_only():
    class Towers:
        name = "towers"

        def score(self, question, passages, places):
            return [float("tower" in passages[hit].text[a:b]) for hit, a, b in places]

    def shortened(query):
        passages = [Passage(MANY)]
        compressor = Compressor(Hashed(), Towers())
        return compressor.compress(passages, query, Compression(rate=0.1), Letters())

    found = shortened("Which one?")
    assert found.by == ["sentences", "towers"]
    assert "tower" in found.texts[0].text.text
    assert "river" not in found.texts[0].text.text
    assert shortened("").by == ["hashed"]


def test_one_threshold_for_all_gives_the_better_text_more():
    texts = [MANY, "The tower of the harbour. It fell in winter. Stones of the tower lie there."]
    flat = compress(texts, Compression(rate=0.5), scorer=Hashed())
    both = Compression(rate=0.5, words=True)
    asked = compress(texts, both, query="harbour tower", scorer=Hashed())
    assert asked.texts[1].kept_tokens > flat.texts[1].kept_tokens
    ranked = compress(texts, Compression(rate=0.5), scorer=Hashed(), scores=[1.0, 0.1])
    assert ranked.texts[1].kept_tokens < flat.texts[1].kept_tokens
    assert ranked.by == ["passages", "hashed"]
    own = compress(texts, Compression(rate=0.5, threshold="text"), scorer=Hashed())
    assert [k.kept_tokens / k.original_tokens for k in own.texts] == pytest.approx([0.5] * 2, 0.05)


def test_the_highest_scores_are_kept():
    (scored,) = Hashed().score([MANY], "", "mean")
    found = compress([MANY], Compression(rate=0.4), scorer=Hashed())
    scores = np.array(scored.scores)
    cut = np.sort(scores[found.kept])[:3].max()
    assert scores[~found.kept].max() <= cut


def test_what_must_be_kept_passes_the_budget_only_where_it_may():
    options = Compression(rate=0.1, keep_digits=True)
    loose = compress([PROSE], options, scorer=Hashed())
    assert loose.warnings == [OVER_BUDGET] or total(loose) <= 0.1 * loose.texts[0].original_tokens
    tight = compress([PROSE], Compression(rate=0.02, keep_digits=True, strict=True))
    assert total(tight) <= 0.02 * tight.texts[0].original_tokens
    assert any(warning.startswith(OVER_BUDGET) for warning in tight.warnings)
    said = loose.texts[0].text.text
    assert all(number in said for number in ("14", "1994", "35", "5", "2", "3"))


def test_drop_consecutive():
    text = "a. b. c. d. e. f. g. h."
    options = Compression(rate=0.6, force_tokens=["."], drop_consecutive=True)
    said = compress([text], options, scorer=Hashed()).texts[0].text.text
    assert ". ." not in said
    assert ".." not in said
    again = compress([text], Compression(rate=0.6, force_tokens=["."]), scorer=Hashed())
    assert again.texts[0].text.text.count(".") == 8


def test_one_huge_word():
    found = compress(["x" * 10_000], Compression(rate=0.5), scorer=Hashed())
    assert found.texts[0].text.text == ""
    assert compress(["x" * 10_000], Compression(rate=1.0)).texts[0].text.text == "x" * 10_000


def test_no_text_at_all():
    found = compress([""], Compression(rate=0.0))
    assert (found.texts[0].text.text, found.texts[0].text.stretches) == ("", [])
    assert compress([]).texts == []

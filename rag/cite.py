"""Citations computed from the texts: answer sentences aligned with the evidence, word by word.

Nothing the model claims about its sources is used. A sentence is cited to the span of evidence
that covers the most of its words, each weighted by its rarity in the evidence, provided that

* the span covers at least `MIN_COVERAGE` of that weight, in much the same order,
* every number of the sentence stands in the span, and every name somewhere in the hit.

Words that the hit's title has count as covered: "It is the capital of France" under the title
"Paris" supports "Paris is the capital of France". This is lexical support, not proof of truth: a
denial made of the same words would be cited too.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import regex

from indexes.sentences import sentence_spans
from rag.answer import Citation
from rag.generate.alignment import Word, find_runs, ordered_weight, required_forms, split_words
from rag.search import Hit, pointed_at

MIN_COVERAGE = 0.6
"""Share of a sentence's weight that a span must cover."""

MIN_SCORE = 0.5
"""Least score, (3 coverage + ordered coverage) / 4."""

COMMON_WEIGHT = 0.05
"""Weight of a function word, where a rare word has a weight above 1."""

PAIR_PENALTY = 0.05
"""Taken off the score of two sentences together: one that does as well is the better pointer."""

MAX_SPAN_WORDS = 80
"""A longer evidence sentence is cut into windows of this many words, half overlapping."""

MAX_SENTENCE_WORDS = 200
"""Of a longer answer sentence just the first words are aligned."""

_MARKER = regex.compile(
    r"\s*[\[【［]\s*[1-9]\d{0,2}(?:\s*[,;–-]\s*[1-9]\d{0,2})*\s*[\]】］]"
    r"|\s*</?evidence\b[^<>\n]{0,64}>",
    regex.IGNORECASE,
)


class _Span(NamedTuple):
    """A stretch of one hit: its words[first:last], which are text[start:end] of the hit."""

    hit: int
    first: int
    last: int
    start: int
    end: int
    n_sentences: int


class _Source(NamedTuple):
    """One hit made ready: the forms of its words, of all of them and of its title, its spans."""

    forms: list[str]
    all_forms: frozenset[str]
    title: frozenset[str]
    spans: list[_Span]


class _Sentence(NamedTuple):
    """One answer sentence made ready; `content` are the forms that are no common words."""

    forms: list[str]
    weights: dict[str, float]
    content: frozenset[str]
    numbers: frozenset[str]
    names: frozenset[str]


def clean_answer(text: str) -> str:
    """The model's text without source markers it made up (`[7]`, `[1, 2]`) or echoed delimiters."""
    count = 1
    while count:
        text, count = _MARKER.subn("", text)
    return text.strip()


def cite(answer: str, evidence: Sequence[Hit], *, question: str = "") -> list[Citation]:
    """Citations of `answer`, at most one a sentence, in order; offsets in code points.

    `answer[start:end]` is a whole sentence, `hit.text[source_start:source_end]` what supports it
    best. Which of several spans with the same support is meant is settled by where a model pointed
    at (`rag.search.Highlight`), then by `question`.
    """
    aligner = _Aligner(evidence, question)
    citations = []
    for start, end in sentence_spans(answer):
        span = aligner.best(split_words(answer[start:end])[:MAX_SENTENCE_WORDS])
        if span is not None:
            hit_id = evidence[span.hit].id
            citations.append(Citation(start, end, hit_id, span.start, span.end))
    return citations


class _Aligner:
    """The evidence of one request, indexed by word."""

    def __init__(self, evidence: Sequence[Hit], question: str) -> None:
        self._words = [split_words(hit.text) for hit in evidence]
        self._sources = [
            _source(index, hit, words)
            for index, (hit, words) in enumerate(zip(evidence, self._words, strict=True))
        ]
        self._spans = [span for source in self._sources for span in source.spans]
        self._postings: dict[str, list[int]] = {}
        for number, span in enumerate(self._spans):
            for form in set(self._forms(span)):
                self._postings.setdefault(form, []).append(number)
        self._asked = frozenset(w.form for w in split_words(question) if not w.is_common)
        self._pointed_at = [pointed_at(hit) for hit in evidence]

    def best(self, words: Sequence[Word]) -> _Span | None:
        """The span that supports the sentence best, None when none does well enough."""
        if not words:
            return None
        sentence = self._ready(words)
        contained = self._containing(sentence)
        if contained:
            return max(contained, key=self._asked_in)
        if len(sentence.content) == 1 and sentence.content <= self._asked:
            return None  # "The answer to the question about tides is:" only echoes the question
        promising = self._promising(sentence)
        scored = [(self._score(sentence, span), self._asked_in(span), span) for span in promising]
        # max keeps the first of equals: the better hit, then the earlier span.
        score, _, span = max(scored, key=lambda found: found[:2], default=(0.0, (False, 0), None))
        return span if score >= MIN_SCORE else None

    def _ready(self, words: Sequence[Word]) -> _Sentence:
        numbers, names = required_forms(words)
        return _Sentence(
            forms=[word.form for word in words],
            weights={word.form: self._weight(word) for word in words},
            content=frozenset(word.form for word in words if not word.is_common),
            numbers=numbers,
            names=names,
        )

    def _weight(self, word: Word) -> float:
        """Rarity over the spans, log(1 + N / df) as in tf-idf; common words hardly count."""
        if word.is_common:
            return COMMON_WEIGHT
        return math.log(1 + (len(self._spans) + 1) / (len(self._postings.get(word.form, ())) + 1))

    def _containing(self, sentence: _Sentence) -> list[_Span]:
        """The spans that hold the whole sentence, word for word and without a break.

        Function words alone ("It is.") say nothing inside another sentence: they must be one.
        """
        n_words = len(sentence.forms)
        spans = [
            self._enclosing(index, at, at + n_words)
            for index, source in enumerate(self._sources)
            for at in find_runs(source.forms, sentence.forms)
        ]
        return [span for span in spans if sentence.content or span.last - span.first == n_words]

    def _enclosing(self, hit: int, first: int, last: int) -> _Span:
        """The shortest span around words[first:last] of the hit, those words alone when none is."""
        around = [s for s in self._sources[hit].spans if s.first <= first and last <= s.last]
        if around:
            return min(around, key=lambda span: span.last - span.first)
        words = self._words[hit]
        return _Span(hit, first, last, words[first].start, words[last - 1].end, 1)

    def _promising(self, sentence: _Sentence) -> list[_Span]:
        """Spans that pass every test but the order of the words, in the order of the evidence."""
        needed = MIN_COVERAGE * sum(sentence.weights.values())
        numbers = {n for form in sentence.content for n in self._postings.get(form, ())}
        spans = [self._spans[number] for number in sorted(numbers)]
        return [span for span in spans if self._covers(sentence, span, needed)]

    def _covers(self, sentence: _Sentence, span: _Span, needed: float) -> bool:
        source = self._sources[span.hit]
        forms = frozenset(self._forms(span))
        if not sentence.names <= source.all_forms | source.title:
            return False
        if not sentence.numbers <= forms | source.title:
            return False
        # A sentence is not supported by the mere title it shares with a hit.
        if not (sentence.content - source.title or sentence.content) & forms:
            return False
        known = forms | source.title
        return sum(w for form, w in sentence.weights.items() if form in known) >= needed

    def _score(self, sentence: _Sentence, span: _Span) -> float:
        """(3 coverage + ordered coverage) / 4, less a little for a span of two sentences."""
        forms = self._forms(span)
        title = self._sources[span.hit].title
        known = title.union(forms)
        weights = sentence.weights
        covered = sum(w for form, w in weights.items() if form in known) / sum(weights.values())
        # Title words may stand anywhere: they are ordered like the sentence by definition.
        rest = [form for form in sentence.forms if form not in title]
        total = sum(weights[form] for form in rest)
        ordered = ordered_weight(rest, forms, weights) / total if total else 1.0
        return (3 * covered + ordered) / 4 - PAIR_PENALTY * (span.n_sentences - 1)

    def _asked_in(self, span: _Span) -> tuple[bool, int]:
        """Whether the span is in a sentence pointed at; how many words of the question are here.

        Those that the title of its hit has count too.
        """
        pointed = any(
            start <= span.start and span.end <= end for start, end in self._pointed_at[span.hit]
        )
        return pointed, len(self._asked & self._sources[span.hit].title.union(self._forms(span)))

    def _forms(self, span: _Span) -> list[str]:
        return self._sources[span.hit].forms[span.first : span.last]


def _source(index: int, hit: Hit, words: Sequence[Word]) -> _Source:
    forms = [word.form for word in words]
    title = frozenset(word.form for word in split_words(hit.title) if not word.is_common)
    return _Source(forms, frozenset(forms), title, _spans(index, hit.text, words))


def _spans(index: int, text: str, words: Sequence[Word]) -> list[_Span]:
    """What can be cited of a hit: sentences, pairs of them, windows of over-long ones."""
    starts = [word.start for word in words]
    singles: list[_Span] = []
    for start, end in sentence_spans(text):
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        if last - first <= MAX_SPAN_WORDS:
            singles.append(_Span(index, first, last, start, end, 1))
            continue
        for at in range(first, last - MAX_SPAN_WORDS // 2, MAX_SPAN_WORDS // 2):
            to = min(at + MAX_SPAN_WORDS, last)
            singles.append(_Span(index, at, to, words[at].start, words[to - 1].end, 1))
    pairs = [
        _Span(index, a.first, b.last, a.start, b.end, 2)
        for a, b in pairwise(singles)
        if a.last <= b.first and b.last - a.first <= MAX_SPAN_WORDS
    ]
    return [span for span in singles if span.first < span.last] + pairs

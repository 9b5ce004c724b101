"""How relevant each sentence of the evidence is for a question: its words, its passage, a scorer.

Coverage is the share of the question's words a sentence has, each weighted by its rarity among the
sentences; the title of its passage and the sentences beside it count in part, because a sentence
that answers often says "it". The passage's score and, where there is one, a sentence scorer's
(`rag.compress.sentence_scorer`) are added, each scaled so that the best has 1. Without a question
a sentence counts by how central it is: the mean frequency of its words (SumBasic, Nenkova and
Vanderwende 2005).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from indexes.sentences import sentence_spans
from rag.compress.compression import Passage
from rag.compress.sentence_scorer import Place, SentenceScorer
from rag.generate.alignment import split_words

TITLE_SHARE = 0.3
"""What a question's word counts that only the title has."""

BESIDE_SHARE = 0.3
"""What the better of the two sentences beside adds."""

PASSAGE_SHARE = 1.0
"""What the best passage's score adds where the best coverage is 1."""

SCORER_SHARE = 1.0
"""The same of a sentence scorer's best score."""


class Sentence(NamedTuple):
    """`text[start:end]` of passage `hit`, and how relevant it is, in [0, 1]."""

    hit: int
    start: int
    end: int
    relevance: float


def sentences_of(
    passages: Sequence[Passage],
    question: str,
    *,
    by_question: bool,
    by_passage: bool,
    scorer: SentenceScorer | None = None,
) -> list[Sentence]:
    """All sentences in order, each with its relevance; all have the same where nothing is asked."""
    places = [
        Place(hit, start, end)
        for hit, passage in enumerate(passages)
        for start, end in sentence_spans(passage.text)
    ]
    forms = [_forms(passages[hit].text[start:end]) for hit, start, end in places]
    worth = [0.0] * len(places)
    if by_question:
        asked = frozenset(_forms(question))
        titles = [frozenset(_forms(passage.title)) for passage in passages]
        hits = [hit for hit, _, _ in places]
        worth = _scaled(_coverage(asked, forms, titles, hits) if asked else _centrality(forms))
        if scorer is not None and question.strip() and places:
            worth = _added(worth, SCORER_SHARE, _scaled(scorer.score(question, passages, places)))
    if by_passage:
        scores = _scaled([passage.score for passage in passages])
        worth = _added(worth, PASSAGE_SHARE, [scores[place.hit] for place in places])
    relevance = _scaled(worth)
    return [Sentence(*place, own) for place, own in zip(places, relevance, strict=True)]


def _added(worth: Sequence[float], share: float, more: Sequence[float]) -> list[float]:
    return [own + share * other for own, other in zip(worth, more, strict=True)]


def _forms(text: str) -> list[str]:
    """Normal forms of the words that are no function words."""
    return [word.form for word in split_words(text) if not word.is_common]


def _coverage(
    asked: frozenset[str],
    sentences: Sequence[Sequence[str]],
    titles: Sequence[frozenset[str]],
    hits: Sequence[int],
) -> list[float]:
    """Σ idf of the question's words that are there / Σ idf of them all, and a share of beside's."""
    held = [asked.intersection(forms) for forms in sentences]
    n_with = Counter(form for forms in held for form in forms)
    idf = {form: math.log(1 + (len(held) + 1) / (n_with[form] + 1)) for form in sorted(asked)}
    total = math.fsum(idf.values())
    own = [
        math.fsum(idf[form] for form in sorted(forms))
        + TITLE_SHARE * math.fsum(idf[form] for form in sorted(asked & titles[hit] - forms))
        for forms, hit in zip(held, hits, strict=True)
    ]
    return [
        (value + BESIDE_SHARE * _beside(own, hits, place)) / total
        for place, value in enumerate(own)
    ]


def _beside(values: Sequence[float], hits: Sequence[int], place: int) -> float:
    """The larger value of the two neighbours in the same passage."""
    around = (place - 1, place + 1)
    there = [at for at in around if 0 <= at < len(values) and hits[at] == hits[place]]
    return max((values[at] for at in there), default=0.0)


def _centrality(sentences: Sequence[Sequence[str]]) -> list[float]:
    """Mean share of each sentence's words in all words."""
    counts = Counter(form for forms in sentences for form in forms)
    total = max(1, counts.total())
    return [
        math.fsum(counts[form] for form in forms) / (len(forms) * total) if forms else 0.0
        for forms in sentences
    ]


def _scaled(scores: Sequence[float]) -> list[float]:
    """Scores over the largest; all alike where none is above 0."""
    top = max(scores, default=0.0)
    if not (top > 0 and math.isfinite(top)):
        return [0.0] * len(scores)
    return [max(0.0, score) / top for score in scores]

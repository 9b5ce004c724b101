"""Lexical alignment of a sentence with a text: which words occur there, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from indexes.analyzer import Analyzer, AnalyzerConfig

_COMMON: Final = """
    a about after all also an and any are as at be because been before being both but by can could
    did do does during each for from had has have he her him his how i if in into is it its may
    might more most no nor not of on only or other our over s shall she should so some such than
    that the their them then there these they this those through to under until up was we were
    what when where which while who whom whose why will with would you your
    according answer context evidence given mentioned provided question stated states text
"""
COMMON_WORDS: Final = frozenset(_COMMON.split())
"""English function words, and the words that models frame an answer with. They hardly count."""

_ANALYZER: Final = Analyzer(
    AnalyzerConfig(stemmer="english", stopwords="none", cjk_bigrams=False, fold_accents=True)
)
"""Keeps every word, so that word positions are those of the text."""


class Word(NamedTuple):
    """One word: its normal form, its place in code points, and what it looks like."""

    form: str
    start: int
    end: int
    is_common: bool
    is_number: bool
    is_capitalised: bool


def split_words(text: str) -> list[Word]:
    """All words of `text`, in order."""
    return [
        Word(
            token.term,
            token.start,
            token.end,
            is_common=text[token.start : token.end].casefold() in COMMON_WORDS,
            is_number=any(ch.isdecimal() for ch in token.term),
            is_capitalised=text[token.start].isupper(),
        )
        for token in _ANALYZER.tokens(text)
    ]


def required_forms(sentence: Sequence[Word]) -> tuple[frozenset[str], frozenset[str]]:
    """Forms of the sentence's numbers, and of its names: all words with a capital.

    So the first word counts as a name, unless it is a common one: it is most often the subject,
    and an answer about another subject is the worst to be cited.
    """
    numbers = frozenset(word.form for word in sentence if word.is_number)
    names = frozenset(
        word.form
        for word in sentence
        if word.is_capitalised and not word.is_common and not word.is_number
    )
    return numbers, names


def ordered_weight(
    sentence: Sequence[str], text: Sequence[str], weights: Mapping[str, float]
) -> float:
    """Weight of the heaviest common subsequence of two lists of forms, in O(len * len).

    The weighted form of the longest common subsequence that ROUGE-L counts (Lin 2004, section 3).
    """
    row = [0.0] * (len(text) + 1)
    for form in sentence:
        diagonal = 0.0
        weight = weights[form]
        for at, other in enumerate(text, 1):
            above = row[at]
            if form == other:
                row[at] = max(above, row[at - 1], diagonal + weight)
            elif row[at - 1] > above:
                row[at] = row[at - 1]
            diagonal = above
    return row[-1]


def find_runs(text: Sequence[str], run: Sequence[str], limit: int = 32) -> list[int]:
    """Where `run` stands in `text` as consecutive words: the first `limit` places."""
    places: list[int] = []
    at = -1
    while run and len(places) < limit:
        try:
            at = text.index(run[0], at + 1)
        except ValueError:
            break
        if text[at : at + len(run)] == run:
            places.append(at)
    return places

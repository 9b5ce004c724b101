"""What of a text is worth preserving, read off questions and answers: the labels of training.

Where a question is given, the sentence that answers it. Where none is, the words that any of the
text's questions or answers hold. No teacher writes these labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import regex

from indexes.sentences import sentence_spans
from rag.compress.words import Span
from rag.generate.alignment import split_words

MIN_SHARED = 2
"""A turn of a meeting answers where it shares at least this many words with the summary."""


def answer_places(text: str, answers: Iterable[str]) -> list[Span]:
    """Where an answer stands as whole words, whatever its case, punctuation and white space."""
    places = set()
    for answer in answers:
        words = regex.findall(r"\w+", answer)
        if words:
            pattern = r"\b" + r"\W+".join(map(regex.escape, words)) + r"\b"
            found = regex.finditer(pattern, text, regex.IGNORECASE)
            places |= {Span(*match.span()) for match in found}
    return sorted(places)


def answering_sentences(text: str, question: str, answers: Iterable[str]) -> list[Span]:
    """The sentences with an answer that share the most words with the question.

    An answer across two sentences makes both answer.
    """
    places = answer_places(text, answers)
    asked = _forms(question)
    found: list[tuple[int, Span]] = []
    for start, end in sentence_spans(text):
        if any(max(start, place.start) < min(end, place.end) for place in places):
            found.append((len(asked & _forms(text[start:end])), Span(start, end)))
    best = max((shared for shared, _ in found), default=0)
    return [span for shared, span in found if shared == best]


def telling_words(text: str, questions: Sequence[str], answers: Iterable[str]) -> list[Span]:
    """The words of any of the questions or of the answers, function words left out."""
    asked = frozenset().union(*map(_forms, questions))
    words = split_words(text)
    kept = [Span(word.start, word.end) for word in words if word.form in asked]
    return sorted({*kept, *answer_places(text, answers)})


def supporting_turns(text: str, turns: Sequence[Span], summary: str) -> list[Span]:
    """The turns of a stretch of a meeting that share enough with its summary."""
    told = _forms(summary)
    return [turn for turn in turns if len(told & _forms(text[turn.start : turn.end])) >= MIN_SHARED]


def _forms(text: str) -> frozenset[str]:
    return frozenset(word.form for word in split_words(text) if not word.is_common)

"""How much of a summary its source bears out, by words alone. No model is asked.

A summary S is cut into sentences. Its *content words* are ROUGE tokens (lower-cased, stemmed) that
are no function words. For each sentence s, and w over the windows of three consecutive source
sentences,

    support(s) = max_w |content(s) ∩ content(w)| / |content(s)|

`faithfulness` is the mean of support weighted by |content(s)|: the share of the content words that
stand, sentence by sentence, close together in one place of the source. `numbers_supported` is the
share of the summary's distinct numbers that occur in the source. `coverage` and `density` are those
of Grusky et al. 2018: with F the longest source fragments copied by S, greedily from the left,
coverage = Σ|f| / |S| and density = Σ|f|² / |S|, over all tokens.

What it cannot see: negation, swapped roles, and true paraphrases (which it counts as unsupported).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.rouge import rouge_tokens
from indexes.sentences import sentence_spans

WINDOW_SENTENCES = 3

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORDS = """
a about after all also an and any are as at be because been before being both but by can could
did do does doing down during each for from had has have having he her here hers him his how i
if in into is it its just me more most my no nor not now of off on once only or other our out
over own same she should so some such than that the their them then there these they this those
through to too under until up very was we were what when where which while who whom why will
with would you your
"""
_FUNCTION_WORDS = frozenset(_WORDS.split())


def faithfulness(summary: str, source: str) -> dict[str, float]:
    """The measures above for one summary; those with nothing to count are left out."""
    windows = _windows(source)
    weights, supports = [], []
    for start, end in sentence_spans(summary):
        if content := _content_words(summary[start:end]):
            weights.append(len(content))
            supports.append(max((len(content & w) for w in windows), default=0))
    row: dict[str, float] = {}
    if weights:
        row["faithfulness"] = sum(supports) / sum(weights)
    if numbers := set(_NUMBER.findall(summary)):
        row["numbers_supported"] = len(numbers & set(_NUMBER.findall(source))) / len(numbers)
    if tokens := rouge_tokens(summary, stem=False):
        lengths = _fragment_lengths(tokens, rouge_tokens(source, stem=False))
        row["coverage"] = sum(lengths) / len(tokens)
        row["density"] = sum(n * n for n in lengths) / len(tokens)
    return row


def _content_words(text: str) -> set[str]:
    words = rouge_tokens(text, stem=False)
    return set(rouge_tokens(" ".join(word for word in words if word not in _FUNCTION_WORDS)))


def _windows(source: str) -> list[set[str]]:
    sentences = [_content_words(source[start:end]) for start, end in sentence_spans(source)]
    n_windows = max(1, len(sentences) - WINDOW_SENTENCES + 1)
    return [set().union(*sentences[i : i + WINDOW_SENTENCES]) for i in range(n_windows)]


def _fragment_lengths(summary: Sequence[str], source: Sequence[str]) -> list[int]:
    """Lengths of the fragments that the summary copies, greedily from the left, longest first."""
    places: dict[str, list[int]] = {}
    for place, token in enumerate(source):
        places.setdefault(token, []).append(place)
    lengths, start = [], 0
    while start < len(summary):
        starts = places.get(summary[start], ())
        longest = max((_run_length(summary, start, source, place) for place in starts), default=0)
        if longest:
            lengths.append(longest)
        start += max(longest, 1)
    return lengths


def _run_length(x: Sequence[str], i: int, y: Sequence[str], j: int) -> int:
    length = 0
    while i + length < len(x) and j + length < len(y) and x[i + length] == y[j + length]:
        length += 1
    return length

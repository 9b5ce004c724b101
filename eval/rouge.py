"""ROUGE (Lin 2004) as the `rouge-score` package computes it, which most papers report.

Tokens are the runs of a-z and 0-9 of the lower-cased text, those of more than three letters stemmed
by Porter's original algorithm, as ROUGE-1.5.5 does. `rouge-score` stems by NLTK's dialect of it:
on 125 pairs of SQuALITY references the means differ by less than 0.0005; without stemming the two
agree to the last bit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

_TOKEN = re.compile(r"[a-z0-9]+")
_MIN_STEMMED_CHARS = 4


class Overlap(msgspec.Struct, frozen=True):
    """Precision, recall and their harmonic mean."""

    precision: float
    recall: float
    f: float


def rouge_tokens(text: str, *, stem: bool = True) -> list[str]:
    """Tokens of `text` as ROUGE counts them."""
    words = _TOKEN.findall(text.lower())
    if not stem:
        return words
    stems: list[str] = _porter().stemWords(words)
    return [s if len(w) >= _MIN_STEMMED_CHARS else w for w, s in zip(words, stems, strict=True)]


def rouge_n(guess: Sequence[str], reference: Sequence[str], n: int) -> Overlap:
    """ROUGE-N of two token lists: overlap of their bags of n-grams."""
    guessed, wanted = _ngrams(guess, n), _ngrams(reference, n)
    return _overlap((guessed & wanted).total(), guessed.total(), wanted.total())


def rouge_l(guess: Sequence[str], reference: Sequence[str]) -> Overlap:
    """ROUGE-L of two token lists: their longest common subsequence, sentences ignored."""
    return _overlap(lcs_length(guess, reference), len(guess), len(reference))


def rouge(guess: str, references: Sequence[str], *, stem: bool = True) -> dict[str, float]:
    """F of ROUGE-1, ROUGE-2 and ROUGE-L, each the best over the references."""
    tokens = rouge_tokens(guess, stem=stem)
    rows = [rouge_tokens(reference, stem=stem) for reference in references]
    return {
        "rouge1": max(rouge_n(tokens, row, 1).f for row in rows),
        "rouge2": max(rouge_n(tokens, row, 2).f for row in rows),
        "rougeL": max(rouge_l(tokens, row).f for row in rows),
    }


def lcs_length(x: Sequence[str], y: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time in one big integer.

    Bit-parallel (Hyyrö 2004): bit j of `row` is 0 where the table grows at column j. O(|x|·|y|/64).
    """
    matches: dict[str, int] = {}
    for place, token in enumerate(y):
        matches[token] = matches.get(token, 0) | 1 << place
    full = (1 << len(y)) - 1
    row = full
    for token in x:
        taken = row & matches.get(token, 0)
        row = ((row + taken) | (row - taken)) & full
    return len(y) - row.bit_count()


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _overlap(n_common: int, n_guessed: int, n_wanted: int) -> Overlap:
    if not n_common:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = n_common / n_guessed, n_common / n_wanted
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))


@cache
def _porter() -> Any:
    import Stemmer

    return Stemmer.Stemmer("porter")

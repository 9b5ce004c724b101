"""ROUGE-L as KILT's published numbers have it: the `rouge` package, version 1.0.0, summary level.

It differs from Lin (2004): texts are cut at full stops, words at white space with nothing else
normalised, and *sets* of words are counted. With R the union, over all pairs of a reference and a
guessed sentence, of the words of their longest common subsequence:

    recall = |R| / |words of the reference|,  precision = |R| / |words of the guess|,
    F = 2 P R / (P + R + 1e-8)
"""

from __future__ import annotations

from collections.abc import Sequence

_EPSILON = 1e-8


def kilt_rouge_l(guess: str, reference: str) -> float:
    """F of ROUGE-L in [0, 1); 0 when either text is empty or nothing but full stops."""
    guessed, wanted = _sentences(guess), _sentences(reference)
    if not guessed or not wanted:
        return 0.0
    common: set[str] = set()
    for wanted_sentence in wanted:
        for guessed_sentence in guessed:
            common |= _common_words(wanted_sentence, guessed_sentence)
    recall = len(common) / len({word for sentence in wanted for word in sentence})
    precision = len(common) / len({word for sentence in guessed for word in sentence})
    return 2 * precision * recall / (precision + recall + _EPSILON)


def _sentences(text: str) -> list[list[str]]:
    # Splitting the joined text at single blanks keeps one empty word for a blank sentence ("a. "),
    # which the package counts as a word.
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _common_words(x: Sequence[str], y: Sequence[str]) -> set[str]:
    """Words of one longest common subsequence; of equally long ones, the one that ends first in x.

    `length[i][j]` is that of x[:i] and y[:j]; the walk back leaves y's word where both ways are
    equally long, which decides the words but not their number.
    """
    length = [[0] * (len(y) + 1) for _ in range(len(x) + 1)]
    for i, word in enumerate(x, 1):
        for j, other in enumerate(y, 1):
            if word == other:
                length[i][j] = length[i - 1][j - 1] + 1
            else:
                length[i][j] = max(length[i - 1][j], length[i][j - 1])
    i, j, words = len(x), len(y), set[str]()
    while i and j:
        if x[i - 1] == y[j - 1]:
            words.add(x[i - 1])
            i, j = i - 1, j - 1
        elif length[i - 1][j] > length[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words

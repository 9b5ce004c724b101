"""SQuAD's way of comparing answers (Rajpurkar et al. 2016, its evaluation script).

Normalising lowers the case, removes ASCII punctuation and the articles a, an and the, and collapses
white space, in that order.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """The text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1 when both are the same after normalising, else 0."""
    return float(normalise(prediction) == normalise(gold))


def token_f1(prediction: str, gold: str) -> float:
    """Harmonic mean of token precision and recall over the normalised bags of tokens.

    Two texts that are both empty after normalising agree, as in SQuAD 2.0: 1.
    """
    guessed, wanted = normalise(prediction).split(), normalise(gold).split()
    if not guessed and not wanted:
        return 1.0
    n_common = sum((Counter(guessed) & Counter(wanted)).values())
    # 2PR / (P + R) with P = n/g and R = n/w.
    return 2 * n_common / (len(guessed) + len(wanted))


def contains(text: str, gold: str) -> float:
    """1 when the gold answer's normalised tokens stand in a row in the normalised text, else 0.

    An answer that is empty after normalising is contained in nothing.
    """
    wanted = normalise(gold)
    return float(bool(wanted) and f" {wanted} " in f" {normalise(text)} ")


def best(score: Callable[[str, str], float], prediction: str, golds: Iterable[str]) -> float:
    """The best score over the accepted answers; 0 when there is none."""
    return max((score(prediction, gold) for gold in golds), default=0.0)

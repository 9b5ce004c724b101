"""Measures of one answered question, and their means.

With A the answer, G its accepted texts, C the documents it cites and R those that hold the answer
(the judged ones):

* `em`, `f1`: best over G after SQuAD's normalising. On a question without an answer both are 1 when
  the service abstained and 0 otherwise (SQuAD 2.0).
* `subspan_em`: some g in G stands in A (best_subspan_em of Liu et al. 2023, "Lost in the Middle",
  here on whole tokens).
* `answer_in_evidence`: some g in G stands in the text of some hit that was shown to the model.
* `citation_precision` = |C ∩ R| / |C|, over answers that cite anything;
  `citation_recall` = |C ∩ R| / |R|, over answered questions; both on the level of documents.
* `cited_answer`: some g in G stands in a cited stretch of text, so that who follows the citation
  reads the answer.
* `abstained`: the service gave no answer, over answerable questions (an error there) as
  `abstained_answerable` and over unanswerable ones (right there) as `abstained_unanswerable`.

A measure that does not apply to a question is absent from its row and from its mean's denominator;
`Means.n` says over how many questions each mean runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from eval.answer_text import best, contains, exact_match, normalise, token_f1

NO_ANSWER = frozenset(
    {
        "no answer",
        "not enough information",
        "unknown",
        "unanswerable",
        "i do not know",
        "i dont know",
        "not answerable",
        "cannot be answered",
        "not mentioned",
        "insufficient evidence",
    }
)
"""Normalised answers that decline: an answer counts as declining when it is one of them."""


class Outcome(msgspec.Struct, frozen=True):
    """What the service gave for one question, next to what was wanted.

    `cited` maps document ids to the stretches of text cited from them; `evidence` holds the texts
    shown to the model. `golds` empty means that the question has no answer in the corpus.
    """

    id: str
    answer: str
    golds: tuple[str, ...]
    relevant: frozenset[str]
    cited: Mapping[str, Sequence[str]]
    evidence: Sequence[str]
    no_evidence: bool = False


class Means(msgspec.Struct, frozen=True):
    """Mean of each measure, and over how many questions it runs."""

    mean: dict[str, float]
    n: dict[str, int]


def abstained(outcome: Outcome) -> bool:
    """Whether the service declined: by status, by an empty answer, or in so many words."""
    words = normalise(outcome.answer)
    return outcome.no_evidence or not words or words in NO_ANSWER


def measure(outcome: Outcome) -> dict[str, float]:
    """The measures that apply to this question, each in [0, 1]."""
    declined = abstained(outcome)
    if not outcome.golds:
        right = float(declined)
        return {"em": right, "f1": right, "abstained_unanswerable": right}
    answer = "" if declined else outcome.answer
    row = {
        "em": best(exact_match, answer, outcome.golds),
        "f1": best(token_f1, answer, outcome.golds),
        "subspan_em": best(contains, answer, outcome.golds),
        "answer_in_evidence": _any_contains(outcome.evidence, outcome.golds),
        "abstained_answerable": float(declined),
    }
    return row if declined else row | _citation_measures(outcome)


def average(rows: Iterable[Mapping[str, float]]) -> Means:
    """Mean of each measure over the rows that have it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return Means(
        mean={name: sum(column) / len(column) for name, column in values.items()},
        n={name: len(column) for name, column in values.items()},
    )


def _citation_measures(outcome: Outcome) -> dict[str, float]:
    cited = set(outcome.cited)
    row: dict[str, float] = {}
    if outcome.relevant:
        n_right = len(cited & outcome.relevant)
        row["citation_recall"] = n_right / len(outcome.relevant)
        if cited:
            row["citation_precision"] = n_right / len(cited)
    stretches = (stretch for stretches in outcome.cited.values() for stretch in stretches)
    row["cited_answer"] = _any_contains(stretches, outcome.golds)
    return row


def _any_contains(texts: Iterable[str], golds: Sequence[str]) -> float:
    return max((best(contains, text, golds) for text in texts), default=0.0)

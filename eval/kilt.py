"""Score a KILT guess file against a gold file with KILT's own measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from eval.answer_text import best, exact_match, normalise, token_f1
from eval.kilt_record import KiltRecord, align, read_kilt
from eval.kilt_retrieval import PAGE_KEYS, at_cutoffs, r_precision, rank_sets
from eval.kilt_rouge import kilt_rouge_l

DEFAULT_CUTOFFS = (1, 5)


class KiltScores(msgspec.Struct, frozen=True):
    """Means over all gold questions: `kilt` counts an answer only where R-precision is 1."""

    kilt: dict[str, float]
    downstream: dict[str, float]
    retrieval: dict[str, float]
    n_queries: int
    n_empty: int


def score_kilt(
    guess_path: Path,
    gold_path: Path,
    cutoffs: Sequence[int] = DEFAULT_CUTOFFS,
    keys: Sequence[str] = PAGE_KEYS,
) -> KiltScores:
    """Score all measures; empty answers stay in the denominator and are counted in `n_empty`.

    A guess without any answer (retrieval alone) scores 0 downstream. Raises `InvalidInput` for
    files that do not belong together (`align`) or break the format.
    """
    pairs = align(read_kilt(gold_path), read_kilt(guess_path))
    retrieval = [_retrieval(gold, guess, cutoffs, keys) for gold, guess in pairs]
    downstream = [_downstream(gold, guess) for gold, guess in pairs]
    gates = [float(r_precision(gold, guess) == 1) for gold, guess in pairs]
    return KiltScores(
        kilt={
            f"KILT-{name}": sum(g * row[name] for g, row in zip(gates, downstream, strict=True))
            / len(pairs)
            for name in downstream[0]
        },
        downstream=_means(downstream),
        retrieval=_means(retrieval),
        n_queries=len(pairs),
        n_empty=sum(not answer_of(guess) for _, guess in pairs),
    )


def answer_of(guess: KiltRecord) -> str:
    """The guessed answer, "" when there is none."""
    answer = guess.output[0].answer
    return "" if answer is None else str(answer).strip()


def gold_answers(gold: KiltRecord) -> list[str]:
    """The distinct accepted answers that are not blank."""
    answers = (str(o.answer).strip() for o in gold.output if o.answer is not None)
    return list(dict.fromkeys(answer for answer in answers if answer))


def _downstream(gold: KiltRecord, guess: KiltRecord) -> dict[str, float]:
    answer, golds = answer_of(guess), gold_answers(gold)
    if not answer:
        return dict.fromkeys(("accuracy", "em", "f1", "rougel"), 0.0)
    return {
        "accuracy": float(answer in golds),
        "em": best(exact_match, answer, golds),
        "f1": best(_f1, answer, golds),
        "rougel": best(kilt_rouge_l, answer, golds),
    }


def _f1(prediction: str, gold: str) -> float:
    """KILT's token F1: unlike SQuAD 2.0's it gives 0 where nothing is left after normalising."""
    return token_f1(prediction, gold) if normalise(prediction) else 0.0


def _retrieval(
    gold: KiltRecord, guess: KiltRecord, cutoffs: Sequence[int], keys: Sequence[str]
) -> dict[str, float]:
    values = {"Rprec": r_precision(gold, guess, keys)}
    return values | at_cutoffs(rank_sets(gold, guess, keys), cutoffs)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

"""KILT's retrieval measures (Petroni et al. 2021, section 4.3), on the level of pages.

A gold record may have several evidence sets, each complete by itself. For R-precision each set is
taken alone and the best counts. For the measures with a cut-off a whole set is *one* point of the
ranking: it stands where its last page is found, and pages of it found earlier take no place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from eval.kilt_record import KiltRecord, Output

PAGE_KEYS = ("wikipedia_id",)


class Ranking(msgspec.Struct, frozen=True):
    """Which points of the ranking are complete evidence sets, and how many distinct sets exist."""

    complete: list[bool]
    n_sets: int


def pages(output: Output, keys: Sequence[str] = PAGE_KEYS) -> list[str]:
    """Distinct page ids of an output's provenance, in order; entries without a key are left out."""
    found = (
        "+".join(str(entry[key]).strip() for key in keys)
        for entry in output.provenance or ()
        if all(key in entry for key in keys)
    )
    return list(dict.fromkeys(found))


def r_precision(gold: KiltRecord, guess: KiltRecord, keys: Sequence[str] = PAGE_KEYS) -> float:
    """Best share, over the evidence sets, of a set's R pages among the first R pages guessed."""
    guessed = pages(guess.output[0], keys)

    def share(wanted: list[str]) -> float:
        return len(set(guessed[: len(wanted)]) & set(wanted)) / len(wanted) if wanted else 0.0

    return max(share(pages(output, keys)) for output in gold.output)


def rank_sets(gold: KiltRecord, guess: KiltRecord, keys: Sequence[str] = PAGE_KEYS) -> Ranking:
    """The ranking with each evidence set as one point; empty when no page was guessed."""
    guessed = pages(guess.output[0], keys)
    if not guessed:
        return Ranking([], 0)
    sets = _distinct_sets(gold, keys)
    # The place where each set is completed; a set that is never completed stands at its last page.
    last = [max((i for i, page in enumerate(guessed) if page in one), default=-1) for one in sets]
    complete: list[bool] = []
    for place, page in enumerate(guessed):
        holders = [number for number, one in enumerate(sets) if page in one]
        if not holders:
            complete.append(False)
        ends = (number for number in holders if last[number] == place)
        complete.extend(sets[number] <= set(guessed) for number in ends)
    return Ranking(complete, len(sets))


def at_cutoffs(ranking: Ranking, cutoffs: Iterable[int]) -> dict[str, float]:
    """precision@k, and for k above 1 also recall@k and success_rate@k, as KILT reports them."""
    values: dict[str, float] = {}
    for k in sorted(cutoffs):
        n_complete = sum(ranking.complete[:k])
        values[f"precision@{k}"] = n_complete / k
        if k > 1:
            values[f"recall@{k}"] = n_complete / ranking.n_sets if ranking.n_sets else 0.0
            values[f"success_rate@{k}"] = float(n_complete > 0)
    return values


def _distinct_sets(gold: KiltRecord, keys: Sequence[str]) -> list[frozenset[str]]:
    """The gold record's sets of pages; one that names a page without its keys is never complete."""
    sets = (
        frozenset(
            "+".join(str(entry[key]).strip() for key in keys if key in entry)
            for entry in output.provenance
        )
        for output in gold.output
        if output.provenance is not None
    )
    return list(dict.fromkeys(sets))

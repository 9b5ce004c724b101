"""Compare runs query by query against a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from eval.dataset import name_some
from eval.significance import fisher_randomisation, holm, paired_t_test
from indexes.errors import InvalidInput, UsageError

PerQuery = Mapping[str, Mapping[str, float]]
"""Measure to query id to value."""

_SAME = 1e-9
"""Differences below this are rounding, not wins."""


class Comparison(msgspec.Struct, frozen=True):
    """`run` against `baseline` by one measure: d = run - baseline over the same `n_queries`.

    `p_t` and `p_fisher` are two-sided and raw; the `_holm` ones are corrected for the number of
    runs that were compared with the baseline by this measure.
    """

    measure: str
    baseline: str
    run: str
    mean_baseline: float
    mean_run: float
    difference: float
    t: float
    p_t: float
    p_fisher: float
    p_t_holm: float
    p_fisher_holm: float
    wins: int
    ties: int
    losses: int
    n_queries: int


def compare(
    runs: Mapping[str, PerQuery],
    measures: Sequence[str] = (),
    *,
    n_permutations: int = 100_000,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every run with the first, by each measure (all that the runs share, when none given).

    Raises `UsageError` with fewer than two runs or a measure that one of them lacks, and
    `InvalidInput` when the runs were not scored over the same queries.
    """
    if len(runs) < 2:
        raise UsageError("a comparison needs at least two runs")
    (baseline, reference), *others = runs.items()
    chosen = measures or [m for m in reference if all(m in run for _, run in others)]
    if not chosen:
        raise UsageError("the runs have no measure in common")
    rows: list[Comparison] = []
    for measure in chosen:
        family = [
            _compare_pair(measure, baseline, reference, name, run, n_permutations, seed)
            for name, run in others
        ]
        rows.extend(_corrected(family))
    return rows


def _compare_pair(
    measure: str,
    baseline: str,
    reference: PerQuery,
    name: str,
    run: PerQuery,
    n_permutations: int,
    seed: int,
) -> Comparison:
    before = _values(measure, baseline, reference)
    after = _values(measure, name, run)
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        raise InvalidInput(f"{baseline} and {name} differ in their queries: {name_some(odd)}")
    a = np.array([before[query_id] for query_id in before], dtype=np.float64)
    b = np.array([after[query_id] for query_id in before], dtype=np.float64)
    differences = b - a
    t, p_t = paired_t_test(differences)
    p_fisher = fisher_randomisation(differences, n_permutations=n_permutations, seed=seed)
    wins, losses = int((differences > _SAME).sum()), int((differences < -_SAME).sum())
    return Comparison(
        measure=measure,
        baseline=baseline,
        run=name,
        mean_baseline=float(a.mean()),
        mean_run=float(b.mean()),
        difference=float(differences.mean()),
        t=t,
        p_t=p_t,
        p_fisher=p_fisher,
        p_t_holm=p_t,
        p_fisher_holm=p_fisher,
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
        n_queries=len(differences),
    )


def _values(measure: str, name: str, run: PerQuery) -> Mapping[str, float]:
    if measure not in run:
        raise UsageError(f"{name} was not scored by {measure!r}: it has {', '.join(run)}")
    if not run[measure]:
        raise InvalidInput(f"{name} has no query scored by {measure!r}")
    return run[measure]


def _corrected(family: Sequence[Comparison]) -> Iterable[Comparison]:
    p_t = holm([row.p_t for row in family])
    p_fisher = holm([row.p_fisher for row in family])
    for row, corrected_t, corrected_fisher in zip(family, p_t, p_fisher, strict=True):
        yield msgspec.structs.replace(row, p_t_holm=corrected_t, p_fisher_holm=corrected_fisher)

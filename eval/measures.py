"""Score a run against judgements with ir-measures (MacAvaney et al. 2022).

Two rules make the numbers mean what they say. Averages run over the queries of the judgements, so
a query without hits counts 0 and is reported as missing. And documents are put in one order before
any measure sees them: ir-measures takes measures from several programs that break ties in opposite
ways, so each document is given a score of its own, by its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from eval.qrels import Qrels
from eval.run import Run
from indexes.errors import Unsupported, UsageError

DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10", "MAP")


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Means by measure, values by measure and query, and how many queries had no hit at all."""

    measures: dict[str, float]
    per_query: dict[str, dict[str, float]]
    n_queries: int
    n_missing: int


def score_run(qrels: Qrels, run: Run, measures: Sequence[str] = DEFAULT_MEASURES) -> Scores:
    """Score `run`; the measures are ir-measures strings and name the results.

    Queries without judgements are left out, and so are hits of theirs. Ties are broken as
    trec_eval does (`trec_order`), so that stored runs get their published numbers.

    Raises `UsageError` for a measure that does not exist and `Unsupported` for one that no
    installed program computes.
    """
    parsed = {name: _parse(name) for name in dict.fromkeys(measures)}
    order = {query_id: trec_order(run[query_id]) for query_id in qrels if run.get(query_id)}
    # trec_eval gives negative relevance no gain; here that holds for every program.
    gains = {
        query_id: {document_id: max(relevance, 0) for document_id, relevance in judged.items()}
        for query_id, judged in qrels.items()
    }
    means: dict[Any, float] = {}
    values: dict[Any, dict[str, float]] = {measure: {} for measure in parsed.values()}
    for group, depth in _by_depth(values):
        result = _calculate(group, gains, order, depth)
        means |= result.aggregated
        for metric in result.per_query:
            values[metric.measure][metric.query_id] = float(metric.value)
    return Scores(
        measures={name: float(means[measure]) for name, measure in parsed.items()},
        per_query={
            name: {query_id: values[measure][query_id] for query_id in qrels}
            for name, measure in parsed.items()
        },
        n_queries=len(qrels),
        n_missing=len(qrels) - len(order),
    )


def trec_order(scores: dict[str, float]) -> list[str]:
    """Document ids, best first, in trec_eval's order.

    The score as float32, descending, then the document id, descending.
    """
    ids = list(scores)
    order, values = _descending(ids, scores)
    if (np.diff(values) == 0).any():
        order, _ = _descending(sorted(ids, reverse=True), scores)
    return order


def check_measures(measures: Iterable[str]) -> None:
    """Raise `UsageError` at once for a measure that does not exist, before any work is done."""
    for name in measures:
        _parse(name)


def _descending(ids: list[str], scores: dict[str, float]) -> tuple[list[str], NDArray[np.float32]]:
    """Ids by float32 score, descending, equal ones left in their order; and those scores."""
    with np.errstate(over="ignore"):
        values = np.fromiter(map(scores.__getitem__, ids), np.float64, len(ids)).astype(np.float32)
    order = np.argsort(-values, kind="stable")
    return [ids[i] for i in order.tolist()], values[order]


def _by_depth(measures: Iterable[Any]) -> list[tuple[list[Any], int | None]]:
    """Measures that look no further than a cut-off, with the deepest one; then those that do.

    A measure that leaves unjudged documents out looks for its k judged ones further down.
    """
    bounded: list[Any] = []
    unbounded: list[Any] = []
    for measure in measures:
        shallow = "cutoff" in measure.params and not measure.params.get("judged_only")
        (bounded if shallow else unbounded).append(measure)
    deepest = max((measure.params["cutoff"] for measure in bounded), default=0)
    groups: list[tuple[list[Any], int | None]] = [(bounded, deepest), (unbounded, None)]
    return [(group, depth) for group, depth in groups if group]


def _calculate(
    measures: list[Any], gains: Qrels, order: dict[str, list[str]], depth: int | None
) -> Any:
    """Run ir-measures over rankings cut at `depth`, scored by whole numbers that count down.

    Those are exact and distinct as float32, so no program meets a tie.
    """
    import ir_measures

    longest = max(map(len, order.values()), default=0)
    falling = [float(-place) for place in range(longest)]
    placed = {
        query_id: dict(zip(ids[:depth], falling, strict=False)) for query_id, ids in order.items()
    }
    try:
        return ir_measures.calc(measures, gains, placed)
    except ValueError as error:
        raise Unsupported(str(error)) from error


def _parse(name: str) -> Any:
    import ir_measures

    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise UsageError(f"there is no measure {name!r}: {error}") from error
    return measure

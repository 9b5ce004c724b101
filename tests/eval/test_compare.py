from __future__ import annotations

import pytest

from eval.compare import compare
from indexes.errors import InvalidInput, UsageError

BASE = {"nDCG@10": {f"q{i}": i / 10 for i in range(8)}}
BETTER = {"nDCG@10": {f"q{i}": i / 10 + (i % 4) / 20 for i in range(8)}, "MAP": {"q0": 1.0}}


def test_counts_means_and_p_values():
    (row,) = compare({"a": BASE, "b": BETTER})
    assert (row.measure, row.baseline, row.run) == ("nDCG@10", "a", "b")
    assert (row.wins, row.ties, row.losses, row.n_queries) == (6, 2, 0, 8)
    assert row.difference == pytest.approx(row.mean_run - row.mean_baseline)
    assert row.difference == pytest.approx(0.075)
    assert row.p_fisher == pytest.approx(2 / 2**6)
    assert row.p_t_holm == row.p_t < 0.05


def test_the_order_of_queries_does_not_matter():
    turned = {"nDCG@10": dict(reversed(BETTER["nDCG@10"].items()))}
    assert compare({"a": BASE, "b": turned}) == compare({"a": BASE, "b": BETTER}, ["nDCG@10"])


def test_holm_runs_over_the_runs_of_one_measure():
    rows = compare({"a": BASE, "b": BETTER, "c": BASE})
    assert [row.run for row in rows] == ["b", "c"]
    assert rows[0].p_fisher_holm == pytest.approx(2 * rows[0].p_fisher)
    assert rows[1].p_t == rows[1].p_fisher == rows[1].p_t_holm == 1.0


def test_what_cannot_be_compared():
    with pytest.raises(UsageError, match="at least two"):
        compare({"a": BASE})
    with pytest.raises(UsageError, match="a was not scored by 'MAP'"):
        compare({"a": BASE, "b": BETTER}, ["MAP"])
    with pytest.raises(UsageError, match="no measure in common"):
        compare({"a": BASE, "b": {"P@1": {"q0": 1.0}}})
    fewer = {"nDCG@10": {f"q{i}": 0.0 for i in range(7)}}
    with pytest.raises(InvalidInput, match="differ in their queries: 'q7'"):
        compare({"a": BASE, "b": fewer})

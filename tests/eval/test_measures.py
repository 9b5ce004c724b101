from __future__ import annotations

import math
import random
from importlib.util import find_spec

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.measures import DEFAULT_MEASURES, check_measures, score_run, trec_order
from eval.qrels import read_qrels
from eval.run import read_run
from indexes.errors import UsageError

DOCUMENT_IDS = [f"d{i}" for i in range(12)]
JUDGED = st.dictionaries(st.sampled_from(DOCUMENT_IDS), st.integers(-1, 3), min_size=1)
RANKED = st.dictionaries(
    st.sampled_from(DOCUMENT_IDS), st.sampled_from([0.0, 1.0, 1.0 + 1e-9, 2.5, -3.0])
)


def by_definition(judged, ranked):
    """The twin: each measure from its definition, one query."""
    order = sorted(ranked, reverse=True)
    order.sort(key=lambda d: -float(np.float32(ranked[d])))
    gains = [max(judged.get(d, 0), 0) for d in order]
    ideal = sorted((max(r, 0) for r in judged.values()), reverse=True)
    n_relevant = sum(r > 0 for r in judged.values())
    places = [i for i, gain in enumerate(gains) if gain > 0]

    def dcg(values):
        return sum(gain / math.log2(i + 2) for i, gain in enumerate(values[:10]))

    precisions = [(n + 1) / (i + 1) for n, i in enumerate(places)]
    return {
        "nDCG@10": dcg(gains) / dcg(ideal) if n_relevant else 0.0,
        "R@100": len(places) / n_relevant if n_relevant else 0.0,
        "RR@10": 1 / (places[0] + 1) if places and places[0] < 10 else 0.0,
        "MAP": sum(precisions) / n_relevant if n_relevant else 0.0,
    }


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), JUDGED, min_size=1),
    st.dictionaries(st.sampled_from("abcdefg"), RANKED),
)
def test_scores_equal_their_definitions_ties_and_all(qrels, run):
    scores = score_run(qrels, run)
    twins = {q: by_definition(judged, run.get(q, {})) for q, judged in qrels.items()}
    assert scores.n_queries == len(qrels)
    assert scores.n_missing == sum(not run.get(q) for q in qrels)
    for measure in DEFAULT_MEASURES:
        per_query = {q: twin[measure] for q, twin in twins.items()}
        assert scores.per_query[measure] == pytest.approx(per_query, abs=1e-12)
        mean = sum(per_query.values()) / len(qrels)
        assert scores.measures[measure] == pytest.approx(mean, abs=1e-12)


def test_a_missing_query_counts_zero_and_is_reported():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}}
    scores = score_run(qrels, {"q1": {"a": 1.0}, "elsewhere": {"a": 1.0}})
    assert scores.measures == dict.fromkeys(DEFAULT_MEASURES, 0.5)
    assert scores.per_query["RR@10"] == {"q1": 1.0, "q2": 0.0}
    assert (scores.n_queries, scores.n_missing) == (2, 1)


def test_every_measure_sees_the_same_order_in_a_tie():
    scores = score_run({"q": {"a": 1}}, {"q": {"a": 1.0, "b": 1.0}}, ["RR", "RR@10", "P@1"])
    assert scores.measures == {"RR": 0.5, "RR@10": 0.5, "P@1": 0.0}


def test_any_measure_string_and_its_alias():
    scores = score_run(
        {"q": {"a": 2, "b": 1}}, {"q": {"b": 2.0, "a": 1.0}}, ["AP(rel=2)", "MAP", "AP", "MRR@10"]
    )
    assert scores.measures == {"AP(rel=2)": 0.5, "MAP": 1.0, "AP": 1.0, "MRR@10": 1.0}


@pytest.mark.parametrize("bad", ["nDGC@10", "nDCG@ten", "nDCG(", "__import__('os')", ""])
def test_unknown_measures_are_usage_errors(bad):
    with pytest.raises(UsageError):
        check_measures([bad])


@pytest.mark.parametrize(("name", "published"), [("bm25", 0.5058), ("splade_pp_ed", 0.7308)])
def test_stored_dl19_runs_get_their_published_number(shared, name, published):
    folder = shared("msmarco_pools", "dl19")
    qrels = read_qrels(folder / "qrels.full.trec.txt.gz")
    scores = score_run(qrels, read_run(folder / "runs" / f"{name}.trec.gz"), ["nDCG@10"])
    assert round(scores.measures["nDCG@10"], 4) == published
    assert (scores.n_queries, scores.n_missing) == (43, 0)


def pytrec_means(qrels, run):
    """What BEIR's evaluator computes: pytrec_eval, averaged over the queries it returns."""
    asked = {"ndcg_cut.10", "recall.100", "map_cut.1000"}
    rows = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run).values()
    return [
        sum(row[key] for row in rows) / len(rows)
        for key in ("ndcg_cut_10", "recall_100", "map_cut_1000")
    ]


def beir_means(qrels, run):
    """The same from the `beir` package, which rounds its means to five digits."""
    from beir.retrieval.evaluation import EvaluateRetrieval

    ndcg, mean_ap, recall, _ = EvaluateRetrieval.evaluate(qrels, run, [10, 100, 1000])
    return [ndcg["NDCG@10"], recall["Recall@100"], mean_ap["MAP@1000"]]


PEERS = [(pytrec_means, 15)] + ([(beir_means, 5)] if find_spec("beir") else [])


@pytest.mark.parametrize(("peer", "n_digits"), PEERS)
@pytest.mark.parametrize("name", ["bm25", "repllama", "openai_ada2"])
def test_agrees_with_the_beir_evaluator_where_no_query_is_missing(shared, name, peer, n_digits):
    folder = shared("msmarco_pools", "dl19")
    qrels = read_qrels(folder / "qrels" / "test.tsv")
    run = read_run(folder / "runs" / f"{name}.trec.gz")
    ours = score_run(qrels, run, ["nDCG@10", "R@100", "AP@1000"]).measures
    rounded = [round(value, n_digits) for value in ours.values()]
    assert rounded == pytest.approx(peer(qrels, run), abs=1e-9)


def test_measures_with_and_without_a_cutoff_see_the_same_run():
    judged = {"q": {"d5": 1, "d7": 1}}
    run = {"q": {f"d{i}": float(-i) for i in range(10)}}
    asked = ["P@2", "R@6", "AP", "RR", "P(judged_only=True)@2", "Judged@10"]
    assert score_run(judged, run, asked).measures == pytest.approx(
        {
            "P@2": 0,
            "R@6": 1 / 2,
            "AP": (1 / 6 + 2 / 8) / 2,
            "RR": 1 / 6,
            "P(judged_only=True)@2": 1,
            "Judged@10": 0.2,
        }
    )


def test_trec_order_reads_scores_as_float32():
    assert trec_order({"a": 1.0 + 1e-9, "b": 1.0}) == ["b", "a"]
    assert trec_order({"a": 1.0 + 1e-6, "b": 1.0}) == ["a", "b"]


@pytest.mark.slow
def test_time_grows_linearly_with_hits(grows_linearly):
    draw = random.Random(7)
    documents = [f"document-{i}" for i in range(10_000)]
    qrels = {f"q{i}": dict.fromkeys(draw.sample(documents, 20), 1) for i in range(100)}

    def score(n_hits):
        run = {q: {d: draw.random() for d in draw.sample(documents, n_hits)} for q in qrels}
        assert score_run(qrels, run).n_queries == 100

    grows_linearly(score, 100)

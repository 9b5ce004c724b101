from __future__ import annotations

import argparse
import json

import pytest

from eval.batch_search import SearchPlan, search_all
from eval.beir import read_beir
from eval.commands.flags import index_plan
from eval.commands.rerank import add_parser
from eval.rerank import StoredRun, rerank
from eval.run import read_run, write_run
from indexes.errors import InvalidInput
from rag.cli.main import main
from rag.progress import Silent

RUN = {
    "q1": {"mole": 5.0, "heron": 4.0, "fox": 3.0, "owl": 2.0},
    "q2": {"otter": 1.0, "mole": 0.5},
    "unjudged": {"owl": 1.0},
}


def again(service, animals, run, limit=100):
    stored = StoredRun("stored.trec", "0" * 64, run)
    dataset = read_beir(animals)
    return rerank(
        service, "animals", dataset, stored, SearchPlan(limit=limit), Silent(), name="again"
    )


def test_scores_are_those_of_a_whole_search(service, animals):
    """The twin: search everything, keep what the run has."""
    run, record = again(service, animals, RUN)
    texts = {query.id: query.text for query in read_beir(animals).queries.values()}
    whole = search_all(service, "animals", texts, SearchPlan(limit=5), Silent())
    assert list(run) == ["q1", "q2"]
    for query_id, found in run.items():
        scored = {key: score for key, score in whole[query_id].items() if key in RUN[query_id]}
        assert list(found.items())[: len(scored)] == list(scored.items())
    assert list(run["q1"]) == ["owl", "fox", "mole", "heron"]
    assert list(run["q2"]) == ["otter", "mole"]
    assert (record.task, record.n_queries, record.n_missing) == ("rerank", 4, 2)
    assert record.config["run"] == "stored.trec"
    assert record.latency["search.bm25"].n == 2


def test_the_depth_is_that_of_the_stored_run(service, animals):
    run, _ = again(service, animals, RUN, limit=3)
    assert list(run["q1"]) == ["fox", "mole", "heron"]


def test_runs_that_do_not_belong_here(service, animals):
    with pytest.raises(InvalidInput, match="documents that the index lacks: 'whale'"):
        again(service, animals, {"q1": {"whale": 1.0}})
    with pytest.raises(InvalidInput, match="none of the run's queries: 'q9'"):
        again(service, animals, {"q9": {"owl": 1.0}})


def test_the_command(animals, tmp_path, capsys):
    write_run(tmp_path / "stored.trec", RUN, "stored")
    out = tmp_path / "again.trec.gz"
    command = ["eval", "rerank", str(tmp_path / "stored.trec"), "--corpus", str(animals)]
    command += ["--retrievers", "bm25", "--out", str(out), "--root", str(tmp_path / "i"), "--json"]
    assert main([*command, "--measure", "RR@10"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"] == {"RR@10": 0.5}
    assert list(read_run(out)["q1"]) == ["owl", "fox", "mole", "heron"]


def test_bm25_is_not_among_what_re_ranks_unless_it_is_asked_for():
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    default = parser.parse_args(["rerank", "a.trec", "--corpus", "a"])
    asked = parser.parse_args(["rerank", "a.trec", "--corpus", "a", "--retrievers", "bm25"])
    names = [[spec.name for spec in index_plan(args).retrievers] for args in (default, asked)]
    assert names == [["splade", "minilm"], ["bm25"]]


@pytest.mark.slow
def test_dl19_keeps_the_documents_and_changes_their_order(shared, tmp_path, capsys):
    folder = shared("msmarco_pools", "dl19")
    out = tmp_path / "again.trec.gz"
    command = ["eval", "rerank", str(folder / "runs" / "bm25.trec.gz"), "--corpus", str(folder)]
    command += ["--qrels", str(folder / "qrels.full.trec.txt.gz"), "--retrievers", "bm25"]
    command += ["--out", str(out), "--root", str(tmp_path / "i"), "--json"]
    assert main(command) == 0
    shown = json.loads(capsys.readouterr().out)
    before, after = read_run(folder / "runs" / "bm25.trec.gz"), read_run(out)
    assert {key: set(scores) for key, scores in after.items()} == {
        key: set(scores) for key, scores in before.items()
    }
    assert shown["n_queries"] == 43
    assert 0.40 < shown["measures"]["nDCG@10"] < 0.5058

from __future__ import annotations

import json

import pytest

from eval.ask import AnswerPlan
from eval.corpus_index import IndexPlan, ensure_index
from eval.qfs import evaluate_qfs, passages_corpus
from eval.qfs_files import Summary, read_summaries
from indexes.errors import EvidentError
from rag.answer import Decode
from rag.cli.main import main
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs

MEETING = {
    "meeting_id": "B1",
    "general_query_list": [{"query": "Summarize it", "answer": "They met."}],
    "specific_query_list": [
        {"query": "What did A say?", "answer": "Hello.", "relevant_text_span": [["0", "1"]]}
    ],
    "meeting_transcripts": [
        {"speaker": "A", "content": "Hello there ."},
        {"speaker": "B", "content": "Goodbye ."},
    ],
}
STORY = {
    "metadata": {"passage_id": "1"},
    "document": "Once upon a time.",
    "questions": [
        {
            "question_text": "What is the plot?",
            "question_number": 1,
            "responses": [{"response_text": "One."}, {"response_text": "Two."}],
        }
    ],
}


def debates(*pairs):
    return [{"document": text, "query": query, "summary": "mice"} for query, text in pairs]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_meetings(tmp_path):
    data = read_summaries(write(tmp_path / "val.jsonl", [MEETING]))
    assert data.summaries == [
        Summary("s00001-0", "Summarize it", ("They met.",), "s00001"),
        Summary("s00001-1", "What did A say?", ("Hello.",), "s00001"),
    ]
    assert data.sources == {"s00001": "A: Hello there .\nB: Goodbye ."}


def test_stories(tmp_path):
    data = read_summaries(write(tmp_path / "dev.jsonl", [STORY]))
    assert data.summaries == [Summary("s00001-0", "What is the plot?", ("One.", "Two."), "s00001")]
    assert data.sources == {"s00001": "Once upon a time."}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "neither QMSum"),
        ([{"x": 1}], "neither QMSum"),
        ([{**STORY, "questions": []}], "holds no query"),
        ([{"document": "d", "query": " ", "summary": "s"}], "line 1: a query or its summary"),
        ([{"document": "d", "query": "q", "summary": ""}], "line 1: a query or its summary"),
        ([STORY, {"document": "d"}], "line 2.*questions"),
    ],
)
def test_broken_files(tmp_path, rows, reason):
    with pytest.raises(EvidentError, match=reason):
        read_summaries(write(tmp_path / "x.jsonl", rows))


def test_passages_cover_their_source(tmp_path):
    words = " ".join(f"Sentence number {n} is here." for n in range(200))
    data = read_summaries(write(tmp_path / "x.jsonl", debates(("q", words))))
    passages = list(passages_corpus(data).documents())
    assert len(passages) == 5
    assert "".join("".join(p.text.split()) for p in passages) == "".join(words.split())
    assert {p.metadata["source"] for p in passages} == {"s00001"}


def test_a_query_sees_its_own_source_only(tmp_path, answering):
    rows = debates(("what do owls hunt", "Owls hunt mice."), ("what do owls hunt", "Moles dig."))
    data = read_summaries(write(tmp_path / "valid.jsonl", rows))
    plan = IndexPlan(parse_specs("bm25"))
    ensure_index("debates", passages_corpus(data), plan, answering.settings, Silent())
    found, record = evaluate_qfs(
        answering,
        "debates",
        data,
        data.summaries,
        AnswerPlan(decode=Decode(max_tokens=8)),
        Silent(),
        name="tiny",
    )
    assert [row.evidence for row in found] == [["s00001/0000"], []]
    assert set(found[1].measures) == {"rouge1", "rouge2", "rougeL"}
    assert record.config["answer"]["min_evidence"] == 0.0
    assert (record.task, record.n_queries, record.n_missing) == ("qfs", 2, 1)
    assert record.measures["rougeL"] == sum(r.measures["rougeL"] for r in found) / 2


def test_the_command(tmp_path, tiny_generator, monkeypatch, capsys):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    path = write(tmp_path / "valid.jsonl", debates(("owls", "Owls hunt mice."), ("m", "Moles.")))
    command = ["eval", "qfs", str(path), "--retrievers", "bm25", "--max-tokens", "8", "--json"]
    root = ["--root", str(tmp_path / "i"), "--cache", str(tmp_path / "c"), "--threads", "1"]
    assert main([*command, *root, "--limit-questions", "1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["n_queries"] == 1
    assert {"rouge1", "rouge2", "rougeL"} <= set(shown["measures"])


@pytest.mark.parametrize(
    ("parts", "n_summaries", "n_sources"),
    [
        (("qmsum", "val.jsonl.gz"), 272, 35),
        (("squality", "dev.jsonl.gz"), 125, 25),
        (("debatepedia", "valid.jsonl.gz"), 719, 719),
    ],
)
def test_reads_the_shared_sets(shared, parts, n_summaries, n_sources):
    data = read_summaries(shared("qfs", *parts))
    assert (len(data.summaries), len(data.sources)) == (n_summaries, n_sources)

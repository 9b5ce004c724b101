from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from eval.ask import AnswerPlan
from eval.qa import evaluate_qa, row_of
from eval.question_set import Question
from eval.record import DatasetFacts, read_record
from indexes.errors import ModelError
from rag.answer import AnswerResponse, Citation, Decode, DecodeReport, Usage
from rag.cli.main import main
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.search import Hit

SHORT = AnswerPlan(decode=Decode(max_tokens=4))
OWL = "The owl hunts mice at night."


def response(answer, *spans, status="ok"):
    """An answer from the owl's and the mole's text, citing (hit, start, end)."""
    hits = [
        Hit(id=key, rank=rank, score=1.0, scores={}, title="", text=text)
        for rank, (key, text) in enumerate([("owl", OWL), ("mole", "Moles dig.")], start=1)
    ]
    citations = [Citation(0, len(answer), *span) for span in spans]
    return AnswerResponse(
        request_id="",
        index="i",
        index_version=1,
        status=status,
        answer=answer,
        citations=citations,
        evidence=hits if status == "ok" else [],
        usage=Usage(),
        decode=DecodeReport(),
        timings_ms={},
    )


def test_a_row_measures_answer_evidence_and_citations():
    question = Question("q", "Who hunts mice?", ("owl", "an owl"), frozenset({"owl"}))
    spans = [("owl", 0, 7), ("owl", 0, 7), ("mole", 0, 5)]
    row = row_of(question, response("The owl.", *spans), frozenset({"owl", "mole"}))
    assert [(c.id, c.text) for c in row.citations] == [("owl", "The owl"), ("mole", "Moles")]
    assert row.evidence == ["owl", "mole"]
    assert row.measures == {
        "em": 1.0,
        "f1": 1.0,
        "subspan_em": 1.0,
        "answer_in_evidence": 1.0,
        "abstained_answerable": 0.0,
        "citation_recall": 1.0,
        "citation_precision": 0.5,
        "cited_answer": 1.0,
    }


def test_documents_of_another_corpus_are_not_held_against_citations():
    question = Question("q", "Who?", ("owl",), frozenset({"squad-00001"}))
    row = row_of(question, response("owl", ("owl", 0, 7)), frozenset({"owl", "mole"}))
    assert not {"citation_recall", "citation_precision"} & set(row.measures)
    assert row.measures["cited_answer"] == 1.0


def test_abstaining_where_there_is_no_answer_is_right():
    row = row_of(Question("q", "Who?", ()), response("", status="no_evidence"), frozenset())
    assert row.measures == {"em": 1.0, "f1": 1.0, "abstained_unanswerable": 1.0}


def test_the_pipeline_end_to_end(answering):
    questions = [
        Question("q1", "who hunts mice at night", ("owl",), frozenset({"owl"})),
        Question("q2", "who builds spaceship engines", ()),
    ]
    facts = DatasetFacts("animals", "")
    rows, record = evaluate_qa(answering, "animals", facts, questions, SHORT, Silent(), name="tiny")
    assert [row.status for row in rows] == ["ok", "no_evidence"]
    assert record.per_query["abstained_unanswerable"] == {"q2": 1.0}
    assert record.per_query["answer_in_evidence"] == {"q1": 1.0}
    assert (record.n_queries, record.n_missing) == (2, 1)
    assert record.measures["em"] == 0.5
    assert record.counts["prompt_tokens"] > 100
    assert record.counts["completion_tokens"] <= 4
    assert record.latency["total"].n == 1
    assert record.cold_start_ms > 0
    assert len(record.models[0].sha256) == 64
    assert record.config["answer"]["decode"]["max_tokens"] == 4
    assert record.dataset.questions_sha256


@pytest.mark.slow
def test_the_command(animals, tiny_generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    out = tmp_path / "answers.jsonl.gz"
    root = ["--root", str(tmp_path / "i"), "--cache", str(tmp_path / "c"), "--threads", "1"]
    command = ["eval", "qa", str(animals), "--retrievers", "bm25", "--max-tokens", "4", *root]
    assert main([*command, "--limit-questions", "2", "--out", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["n_queries"] == 2
    assert set(shown["n"]) == set(shown["measures"])
    record = read_record(out)
    assert record.measures == shown["measures"]
    assert record.name == "answers"
    name = next(path.name for path in (tmp_path / "i").iterdir() if path.is_dir())
    assert main(["eval", "qa", name, str(animals), "--max-tokens", "4", *root]) == 0
    assert "abstained_answerable" in capsys.readouterr().out
    assert main([*command, "--faithful", "cad:0.5", "--monitor", "names", "--json"]) == 0
    decode = json.loads(capsys.readouterr().out)["config"]["answer"]["decode"]
    assert (decode["faithful"], decode["monitors"]) == ("cad:0.5", ["names"])
    assert main([*command, "--mode", "extract", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"]["answer_in_evidence"] > 0


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (["--limit", "51"], 2, "limit"),
        (["--max-tokens", "0"], 2, "max_tokens"),
        (["--faithful", "very"], 2, "faithful"),
        (["--limit-questions", "0"], 2, "at least one"),
        (["--split", "dev"], 1, "no split 'dev'"),
    ],
)
def test_wrong_usage(animals, tmp_path, capsys, flags, code, reason):
    assert main(["eval", "qa", str(animals), *flags, "--root", str(tmp_path / "i")]) == code
    assert reason in capsys.readouterr().err


@pytest.mark.slow
def test_the_default_generator_cites_what_it_found(service, settings):
    from msgspec.structs import replace

    from rag.service import Service

    cache = Path(os.environ.get("RAG_CACHE") or user_cache_path("evident"))
    try:
        resolve("smollm2-135m-instruct", cache)
    except ModelError as error:
        pytest.skip(f"absent: {error}")
    opened = Service(replace(settings, cache=cache))
    question = Question("q", "Which animal digs tunnels?", ("mole",), frozenset({"mole"}))
    plan = AnswerPlan(decode=Decode(max_tokens=24))
    rows, record = evaluate_qa(
        opened, "animals", DatasetFacts("animals", ""), [question], plan, Silent(), name="real"
    )
    opened.close()
    assert record.measures["subspan_em"] == 1.0
    assert record.measures["cited_answer"] == 1.0
    assert rows[0].citations[0].id == "mole"

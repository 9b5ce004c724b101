from __future__ import annotations

import json

import pytest

from eval.kilt import score_kilt
from eval.kilt_guess import guess_of
from eval.kilt_record import KiltRecord, read_kilt
from rag.answer import AnswerResponse, Citation, DecodeReport, Usage
from rag.cli.main import main
from rag.search import Hit


def hit(key, rank, **metadata):
    return Hit(
        id=key, rank=rank, score=1.0, scores={}, title=key.upper(), text="x", metadata=metadata
    )


def response(hits, cited):
    return AnswerResponse(
        request_id="",
        index="i",
        index_version=1,
        status="ok",
        answer="mice",
        citations=[Citation(0, 4, key, 0, 1) for key in cited],
        evidence=hits,
        usage=Usage(),
        decode=DecodeReport(),
        timings_ms={},
    )


def test_provenance_is_the_pages_cited_best_hit_first():
    hits = [
        hit("a#1", 1, wikipedia_id=77),
        hit("b", 2),
        hit("c", 3),
        hit("a#2", 4, wikipedia_id=77),
    ]
    guess = guess_of(KiltRecord(5, "Who?"), response(hits, ["c", "a#2", "a#1", "c"]))
    assert (guess.id, guess.input) == (5, "Who?")
    (output,) = guess.output
    assert output.answer == "mice"
    assert output.provenance == [
        {"wikipedia_id": "77", "title": "A#1"},
        {"wikipedia_id": "c", "title": "C"},
    ]
    assert guess_of(KiltRecord("q"), response(hits, [])).output[0].provenance == []


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_makes_guesses_that_can_be_scored(
    service, tiny_generator, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    gold = [
        {
            "id": 1,
            "input": "who hunts mice at night",
            "output": [{"answer": "owl", "provenance": [{"wikipedia_id": "owl"}]}],
        },
        {"id": "2", "input": "spaceship engines", "output": [{"answer": "none of these"}]},
    ]
    path, out = write(tmp_path / "gold.jsonl", gold), tmp_path / "guess.jsonl"
    command = ["eval", "kilt", "--run", "animals", str(path), "--max-tokens", "4", "--json"]
    command += ["--root", str(service.settings.root), "--cache", str(tmp_path / "c")]
    assert main([*command, "--threads", "1", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == {"guesses": str(out), "n_queries": 2}
    guesses = read_kilt(out)
    assert [(one.id, one.input) for one in guesses.values()] == [
        (1, "who hunts mice at night"),
        ("2", "spaceship engines"),
    ]
    assert guesses["2"].output[0].answer == ""
    scores = score_kilt(out, path)
    assert scores.n_queries == 2
    assert scores.n_empty >= 1


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--run", "animals", "q.jsonl"], 2, "--out"),
        (["--run", "animals", "q.jsonl", "q.jsonl", "--out", "g.jsonl"], 2, "one file"),
        (["q.jsonl"], 2, "GUESS.jsonl and GOLD.jsonl"),
        (["q.jsonl", "q.jsonl", "--out", "g.jsonl"], 2, "--out is for the guesses"),
        (["--run", "animals", "none.jsonl", "--out", "g.jsonl"], 1, "there is no file"),
        (["--run", "animals", "q.jsonl", "--out", "g.jsonl"], 1, "'1' has no input"),
    ],
)
def test_wrong_usage(service, tmp_path, monkeypatch, capsys, arguments, code, reason):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "q.jsonl", [{"id": 1, "output": [{"answer": "x"}]}])
    root = ["--root", str(service.settings.root)]
    assert main(["eval", "kilt", *arguments, *root]) == code
    assert reason in capsys.readouterr().err

"""Answers survive a kill, and only what the same things made is used again."""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager

import msgspec
import pytest

from eval.ask import AnswerPlan, answer_request, ask_all
from eval.journal import ENDING, answer_journal
from eval.record import read_record
from rag.answer import Decode
from rag.cli.main import main
from rag.progress import Silent
from rag.service import Service

PLAN = AnswerPlan(decode=Decode(max_tokens=4))
QUESTIONS = {"q1": "who hunts mice at night", "q2": "river fish", "q3": "who digs tunnels"}


class Killed(BaseException):
    """Nothing in the product catches it."""


def kill_after(monkeypatch, n_answers):
    """The service answers so many requests more, then the process ends. Returns what was asked."""
    asked = []
    answer = Service.answer

    def counted(self, request, *arguments, **options):
        if len(asked) == n_answers:
            raise Killed
        asked.append(request.query)
        return answer(self, request, *arguments, **options)

    monkeypatch.setattr(Service, "answer", counted)
    return asked


@contextmanager
def killed_after(monkeypatch, n_answers):
    """What is asked within; in the end a kill must have come."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        yield kill_after(patch, n_answers)


def requests(plan=PLAN):
    return {key: answer_request("animals", text, plan) for key, text in QUESTIONS.items()}


def ask(service, out, plan=PLAN):
    with answer_journal(out, service, "animals", plan) as journal:
        return ask_all(service, requests(plan), Silent(), journal)


def killed_before_writing(service, out, found):
    """All is answered, put into `found`, and not written."""
    with answer_journal(out, service, "animals", PLAN) as journal:
        found.append(ask_all(service, requests(), Silent(), journal))
        raise Killed


def test_only_what_is_missing_is_asked_again(answering, tmp_path, monkeypatch):
    out = tmp_path / "made" / "answers.jsonl"
    with killed_after(monkeypatch, 2):
        ask(answering, out)
    assert out.with_name(out.name + ENDING).exists()
    asked = kill_after(monkeypatch, 1)
    found = ask(answering, out)
    assert asked == [QUESTIONS["q3"]]
    assert list(found.responses) == list(QUESTIONS)
    assert not out.with_name(out.name + ENDING).exists()
    # Of two processes the first answer each is cold: q1 and q3.
    assert found.latency["total"].n == 1
    assert found.latency["total"].p50_ms == found.responses["q2"].timings_ms["total"]
    monkeypatch.undo()
    plain = ask_all(answering, requests(), Silent())
    for key, response in plain.responses.items():
        assert response.answer == found.responses[key].answer
        assert response.citations == found.responses[key].citations
        assert response.evidence == found.responses[key].evidence


def test_all_there_already_needs_no_model(answering, tmp_path, monkeypatch):
    out = tmp_path / "answers.jsonl"
    first = []
    with pytest.raises(Killed):
        killed_before_writing(answering, out, first)
    monkeypatch.setattr(Service, "generator", lambda _: pytest.fail("the model was loaded"))
    assert [ask(answering, out)] == first


@pytest.mark.parametrize(
    "other",
    [
        AnswerPlan(decode=Decode(max_tokens=5)),
        msgspec.structs.replace(PLAN, min_evidence=0.1),
        msgspec.structs.replace(PLAN, compress_by="words"),
    ],
)
def test_another_configuration_asks_anew(answering, tmp_path, monkeypatch, other):
    out = tmp_path / "answers.jsonl"
    if other.compress_by == "words":
        from eval.compressors import compression

        other = msgspec.structs.replace(other, compress=compression(0.5, "words"))
    with pytest.raises(Killed):
        killed_before_writing(answering, out, [])
    with answer_journal(out, answering, "animals", other) as journal:
        assert [journal.find(one) for one in requests(other).values()] == [None] * 3


def test_a_line_cut_short_is_dropped(answering, tmp_path, monkeypatch):
    out = tmp_path / "answers.jsonl"
    with killed_after(monkeypatch, 2):
        ask(answering, out)
    journal = out.with_name(out.name + ENDING)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    for cut in (lines[1][:-1], lines[1][:50], b"\xff\n"):
        journal.write_bytes(lines[0] + cut)
        with killed_after(monkeypatch, 1) as asked:
            ask(answering, out)
        assert asked == [QUESTIONS["q2"]]
        kept = [json.loads(line)["made_by"] for line in journal.read_bytes().splitlines()]
        assert kept == [json.loads(line)["made_by"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["qa", "qfs", "kilt"])
def test_commands_go_on_where_they_were_killed(
    what, animals, service, tiny_generator, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    if what == "qa":
        data = [str(animals), "--retrievers", "bm25"]
    elif what == "qfs":
        path = tmp_path / "valid.jsonl"
        rows = [
            {"document": text, "query": text, "summary": "mice"}
            for text in ("Owls hunt mice.", "Moles dig.", "Herons fish.")
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = [str(path), "--retrievers", "bm25"]
    else:
        path = tmp_path / "gold.jsonl"
        rows = [{"id": key, "input": text} for key, text in QUESTIONS.items()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = ["--run", "animals", str(path)]
    command = ["eval", what, *data, "--max-tokens", "4", "--json", "--threads", "1"]
    command += ["--root", str(service.settings.root), "--cache", str(tmp_path / "c"), "--out"]
    whole, out = tmp_path / "whole.jsonl.gz", tmp_path / "cut.jsonl.gz"
    assert main([*command, str(whole)]) == 0
    with killed_after(monkeypatch, 2):
        main([*command, str(out)])
    assert not out.exists()
    asked = kill_after(monkeypatch, 9)
    assert main([*command, str(out)]) == 0
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(whole.read_bytes())
    assert len(asked) == len(gzip.decompress(whole.read_bytes()).splitlines()) - 2
    assert not out.with_name(out.name + ENDING).exists()
    if what != "kilt":
        assert read_record(out).measures == read_record(whole).measures

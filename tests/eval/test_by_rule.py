"""Several rules over the same questions: the table, what is resumed, and the command."""

from __future__ import annotations

import json

import pytest

from eval.ask import AnswerPlan, answer_request
from eval.by_rule import Asked, RuleAnswer, answer_by_rules, rule_rows
from eval.rules import EXTRACT, MOMENTUM, PLAIN, check_rules, decode_by
from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.cli.main import main
from rag.progress import Silent


def test_a_rule_is_a_way_to_decode():
    decode = Decode(max_tokens=7, drafter="suffix", faithful="adacad")
    plain = decode_by(PLAIN, decode)
    assert (plain.faithful, plain.mode, plain.drafter, plain.max_tokens) == (
        "off",
        "free",
        "none",
        7,
    )
    assert decode_by(EXTRACT, decode).mode == "extract"
    assert decode_by(EXTRACT, decode).faithful == "off"
    assert decode_by(MOMENTUM, decode).mode == "momentum"
    bent = decode_by("cad:0.3", decode)
    assert (bent.faithful, bent.plausibility) == ("cad:0.3", 0)
    bent = decode_by("cad:0.3@0.1", decode)
    assert (bent.faithful, bent.plausibility) == ("cad:0.3", 0.1)


@pytest.mark.parametrize("rule", ["cad@", "cad:0.3@x", "cad@2", "cad@-1", "cad@nan", "extract@0.1"])
def test_a_rule_that_is_none(rule):
    with pytest.raises(InvalidInput):
        check_rules(["off", rule])


def answers(rule: str, values: list[float], ms: float) -> list[RuleAnswer]:
    return [RuleAnswer(f"q{n}", rule, "", {"f1": v}, ms, 2) for n, v in enumerate(values)]


def test_rows_compare_with_the_first_rule():
    made = [
        *answers("off", [0.0] * 8, 10),
        *answers("cad:1", [1.0] * 8, 20),
        *answers("extract", [0.0] * 8, 5),
    ]
    plain, cad, extract = rule_rows(made, ["f1"])
    assert (plain.measures, plain.against, plain.cost) == ({"f1": 0}, {}, 1)
    assert (cad.measures["f1"], cad.cost, cad.median_ms) == (1, 2, 20)
    assert cad.against["f1"].p_fisher == pytest.approx(2 / 256)
    assert cad.against["f1"].p_fisher_holm == pytest.approx(4 / 256)
    assert (extract.against["f1"].p_fisher, extract.cost) == (1, 0.5)
    assert (plain.bounds, cad.bounds, extract.bounds) == ({}, {"f1": (1, 1)}, {"f1": (0, 0)})


def test_a_measure_runs_over_what_all_rules_have_it_for():
    made = [
        *answers("off", [0.0, 1.0], 1),
        RuleAnswer("q0", "cad:1", "", {}, 1, 1),
        RuleAnswer("q1", "cad:1", "", {"f1": 0.5}, 1, 1),
    ]
    plain, cad = rule_rows(made, ["f1"])
    assert (plain.measures["f1"], cad.measures["f1"]) == (1, 0.5)
    assert cad.against["f1"].n_queries == 1


def asked(keys=("a", "b")):
    plan = AnswerPlan(decode=Decode(max_tokens=6), min_evidence=0.0)
    requests = {key: answer_request("animals", "who hunts mice at night", plan) for key in keys}
    return [Asked(k, r, lambda response: {"n": len(response.answer)}) for k, r in requests.items()]


def test_what_is_there_is_not_asked_again(answering):
    rules = ["off", "cad:0.5", "extract"]
    told = []
    made = answer_by_rules(answering, asked(), rules, Silent(), on_question=told.append)
    assert [(one.id, one.rule) for one in made] == [(k, r) for k in "ab" for r in rules]
    assert [len(one) for one in told] == [3, 3]
    assert all(one.ms > 0 for one in made)
    texts = " ".join(hit.text for hit in answering.answer(asked()[0].request).evidence)
    assert all(one.answer in texts for one in made if one.rule == "extract")
    told.clear()
    again = answer_by_rules(
        answering, asked(), rules, Silent(), done=made[:3], on_question=told.append
    )
    assert [one.answer for one in again] == [one.answer for one in made]
    assert [one[0].id for one in told] == ["b"]
    with pytest.raises(InvalidInput, match="other questions"):
        answer_by_rules(answering, asked(("b",)), rules, Silent(), done=made[:3])


@pytest.mark.slow
def test_the_command(animals, tiny_generator, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    root = ["--root", str(tmp_path / "i"), "--cache", str(tmp_path / "c"), "--threads", "1"]
    out = tmp_path / "rules.jsonl"
    command = ["eval", "rules", str(animals), "--retrievers", "bm25", "--max-tokens", "4", *root]
    rules = ["--rules", "off,cad:1,extract", "--out", str(out)]
    assert main([*command, *rules, "--limit-questions", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["rule"], row["n"]) for row in rows] == [("off", 2), ("cad:1", 2), ("extract", 2)]
    assert set(rows[0]["measures"]) == {"f1", "em", "subspan_em"}
    size = out.stat().st_size
    assert main([*command, *rules, "--limit-questions", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("off")
    assert out.stat().st_size == size
    debates = tmp_path / "valid.jsonl"
    rows = [
        {"document": "Owls hunt mice.", "query": "owls", "summary": "mice"},
        {"document": "Moles dig.", "query": "moles", "summary": "dig"},
    ]
    debates.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        "eval",
        "rules",
        str(debates),
        "--qfs",
        "--retrievers",
        "bm25",
        "--max-tokens",
        "4",
        *root,
    ]
    assert main([*command, "--rules", "off,momentum", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["rule"], row["n"]) for row in rows] == [("off", 2), ("momentum", 2)]
    assert "rougeL" in rows[1]["against"]

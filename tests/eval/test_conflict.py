"""`rag eval conflict`: the files read, the verdicts, and every way to decode run for real."""

from __future__ import annotations

import json

import pytest

from eval.conflict import ConflictAnswer, conflict_rows, verdict
from eval.conflict_files import Conflict, read_conflicts
from eval.rules import RULES, check_rules
from indexes.errors import EvidentError, InvalidInput
from rag.cli.main import main

RGB = [
    {
        "id": n,
        "query": f"Who won in {2000 + n}?",
        "answer": "Ann Lee" if n else [["May 1, 2000", "1 May 2000"]],
        "fakeanswer": "Bob Ray",
        "positive": ["unused"],
        "positive_wrong": [f"In {2000 + n} Bob Ray won.", "Bob Ray was glad."],
    }
    for n in range(4)
]
QUOTE = 'Write a quote that ends in the word ""heavy"": Absence makes the heart grow'
TRAPS = f"""prompt,classes,answer_index
"{QUOTE}","[' heavy.', ' fonder.']",0
"Translate the following sentence from French into English.
Loin des yeux.
to:
Out of sight, out of","[' mind.', "" eyes.""]",1
"What was believed before: The Earth is round.
A. It is round.
B. It is flat.
Answer:","["" A"", "" B""]",1
"""


@pytest.fixture
def rgb(tmp_path):
    path = tmp_path / "en_fact.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in RGB))
    return path


def test_counterfactuals(rgb):
    data = read_conflicts(rgb)
    assert data.name == "en_fact"
    first, second, *_ = data.conflicts
    assert first.contextual == ("Bob Ray",)
    assert first.memorised == ("May 1, 2000", "1 May 2000")
    assert second.memorised == ("Ann Lee",)
    assert second.context == "In 2001 Bob Ray won.\n\nBob Ray was glad."
    assert "Who won in 2001?" in second.prompt
    assert not second.continues


def test_traps_are_split_into_instruction_and_beginning(tmp_path):
    path = tmp_path / "1-traps.csv"
    path.write_text(TRAPS)
    quote, translation, choice = read_conflicts(path).conflicts
    assert quote.context == 'Write a quote that ends in the word "heavy":'
    assert quote.prompt == "Absence makes the heart grow"
    assert (quote.contextual, quote.memorised) == ((" heavy.",), (" fonder.",))
    assert translation.context.endswith("\nLoin des yeux.\nto:")
    assert translation.prompt == "Out of sight, out of"
    assert choice.context == "What was believed before: The Earth is round."
    assert choice.prompt == "A. It is round.\nB. It is flat.\nAnswer:"
    assert choice.contextual == (" B",)
    assert quote.continues


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "n_conflicts"),
    [
        (("qa", "rgb", "en_fact.jsonl.gz"), 100),
        (("cad", "memo_trap", "1-proverb-ending.csv.gz"), 860),
        (("cad", "memo_trap", "2-proverb-translation.csv.gz"), 843),
        (("cad", "memo_trap", "4-history-of-science-qa.csv.gz"), 736),
    ],
)
def test_the_published_files(shared, parts, n_conflicts):
    conflicts = read_conflicts(shared(*parts)).conflicts
    assert len(conflicts) == n_conflicts
    assert len({one.id for one in conflicts}) == n_conflicts
    for one in conflicts:
        assert one.context.strip()
        assert one.prompt.strip()
        assert verdict(one, one.contextual[0]) == (True, False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("heavy, they say", (True, False)),
        (" Fonder.", (False, True)),
        ("very heavy", (False, False)),
        ("heavyweight", (False, False)),
        ("", (False, False)),
    ],
)
def test_continuations_are_judged_by_their_beginning(text, wanted):
    one = Conflict("a", "c", "p", (" heavy.",), (" fonder.",), continues=True)
    assert verdict(one, text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It was Bob Ray.", (True, False)),
        ("The answer: Ann Lee", (False, True)),
        ("Bob Ray, not Ann Lee", (True, False)),
        ("Nobody knows", (False, False)),
    ],
)
def test_answers_are_judged_by_what_they_hold(text, wanted):
    assert verdict(Conflict("a", "c", "p", ("Bob Ray",), ("Ann Lee",)), text) == wanted


def answers(rule: str, followed: list[bool], ms: float) -> list[ConflictAnswer]:
    return [
        ConflictAnswer(f"q{n}", rule, "", one, not one, ms, 4) for n, one in enumerate(followed)
    ]


def test_rows_compare_with_the_first_rule():
    made = [
        *answers("off", [False] * 8 + [True] * 2, 100),
        *answers("cad:1", [True] * 10, 150),
        *answers("adacad", [False] * 8 + [True] * 2, 200),
    ]
    plain, cad, adacad = conflict_rows(made)
    assert (plain.contextual, plain.memorised, plain.p, plain.cost) == (0.2, 0.8, None, 1)
    # Eight changes, all for the better: 2 of the 256 ways to sign them do as much.
    assert cad.p == pytest.approx(2 / 256)
    assert cad.p_holm == pytest.approx(4 / 256)
    assert (cad.cost, cad.median_ms) == (1.5, 150)
    assert (adacad.p, adacad.p_holm) == (1, 1)


@pytest.mark.parametrize("rules", [[], ["off", "off"], ["cad:x"], ["nothing"]])
def test_rules_that_are_none(rules):
    with pytest.raises(InvalidInput):
        check_rules(rules)


@pytest.mark.slow
def test_the_command_runs_every_rule(rgb, tmp_path, tiny_generator, monkeypatch, capsys):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    out = tmp_path / "texts.jsonl"
    command = ["eval", "conflict", str(rgb), "--limit", "2", "--max-tokens", "4"]
    assert main([*command, "--out", str(out), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [row["rule"] for row in made["rows"]] == list(RULES)
    assert {row["n"] for row in made["rows"]} == {2}
    texts = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(texts) == 2 * len(RULES)
    # What is there is not decoded again, and what belongs to other prompts is refused.
    assert main([*command, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == made["rows"]
    assert len(out.read_text().splitlines()) == len(texts)
    assert main([*command, "--rules", "off,adacad", "--out", str(out)]) == 1
    assert "other prompts or rules" in capsys.readouterr().err
    contexts = " ".join(text for row in RGB for text in row["positive_wrong"])
    assert all(one["text"] in contexts for one in texts if one["rule"] == "extract")
    assert main([*command, "--rules", "cad:0.5,adacad"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["rule", "cad:0.5", "adacad"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.jsonl", '{"id": 1}\n', "line 1"),
        ("a.jsonl", "", "holds no conflict"),
        ("a.csv", "prompt,classes\nx,y\n", "no MemoTrap file"),
        ("a.csv", 'prompt,classes,answer_index\nno quote,"[1, 2]",0\n', "no instruction"),
        ("a.csv", 'prompt,classes,answer_index\n"a": b,"[1, 2]",7\n', "no MemoTrap file"),
        ("a.csv.gz", "not gzip", "cannot be read"),
        ("a.csv", None, "there is no file"),
        ("a.jsonl", None, "there is no file"),
    ],
)
def test_files_that_are_none(tmp_path, name, text, reason):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(EvidentError, match=reason):
        read_conflicts(tmp_path / name)

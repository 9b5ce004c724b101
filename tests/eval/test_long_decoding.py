"""`rag eval longctx`: contexts of the wanted length, and ways that keep their promises."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from eval.long_questions import SEPARATOR, read_long_questions, without_middle
from indexes.errors import InvalidInput, UsageError
from rag.cli.main import main
from rag.generate.chat_tokenizer import load_chat_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("animals")
    rows = [
        {"_id": f"d{n}", "title": f"T{n}", "text": f"Animal {n} eats grass."} for n in range(30)
    ]
    (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [
        {"_id": "q1", "text": "What does animal 3 eat?", "metadata": {"answers": ["grass"]}},
        {"_id": "q2", "text": "What has no answer?"},
        {"_id": "q3", "text": "What does animal 7 eat?", "metadata": {"answers": ["grass"]}},
    ]
    (root / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (root / "qrels").mkdir()
    (root / "qrels" / "test.tsv").write_text(
        "q\td\ts\nq1\td3\t1\nq2\td4\t1\nq3\td7\t1\nq3\td8\t0\n"
    )
    return root


def test_contexts_hold_the_answer_and_grow_with_the_length(folder, tiny_generator):
    tokenizer = load_chat_tokenizer(tiny_generator)
    before: dict[str, set[str]] = {}
    for n_tokens in (60, 120, 400):
        found = read_long_questions(folder, n_tokens, 10, tokenizer, 3)
        assert {question.id for question in found} == {"q1", "q3"}
        for question in found:
            texts = set(question.context.split(SEPARATOR))
            number = {"q1": 3, "q3": 7}[question.id]
            assert f"T{number}\nAnimal {number} eats grass." in texts
            assert len(tokenizer.encode(question.context)) <= n_tokens
            assert before.get(question.id, set()) < texts
            before[question.id] = texts
    assert read_long_questions(folder, 120, 10, tokenizer, 3) == read_long_questions(
        folder, 120, 10, tokenizer, 3
    )


def test_a_long_text_loses_its_middle(folder, tiny_generator, tmp_path):
    tokenizer = load_chat_tokenizer(tiny_generator)
    text = "".join(f"{n:03} " for n in range(100))
    cut = without_middle(text, 40, tokenizer)
    assert cut == text[:20] + text[-20:]
    assert without_middle(text, 400, tokenizer) == text
    exam = tmp_path / "exam.jsonl"
    exam.write_text(
        json.dumps({"instructions": ["A?", "B?"], "outputs": ["a", "b"], "input": text})
    )
    found = read_long_questions(exam, 40, 10, tokenizer, 1)
    cut = without_middle(text.strip(), 40, tokenizer)
    assert [(one.question, one.golds, one.context) for one in found] == [
        ("A?", ("a",), cut),
        ("B?", ("b",), cut),
    ]
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InvalidInput, match="no question"):
        read_long_questions(tmp_path / "empty.jsonl", 40, 10, tokenizer, 1)


def test_bamboo_questions_are_found_within_the_text_and_beside_it(tmp_path, tiny_generator):
    tokenizer = load_chat_tokenizer(tiny_generator)
    document, question = "Document:\nSnow fell.\n\nIt was 1964.", "Question:\nwhen was it\n"
    lines = [
        {"content": f"Answer.\n\n{document}\n\n{question}", "answer": "1964"},
        {"content": f"Answer.\n\n{question}\n{document}", "answer": "1964"},
        {
            "content": "Ann: no.",
            "question": "What did Ann say?",
            "options": ["A. Yes, twice.", "B. No."],
            "answer": "B",
        },
    ]
    path = tmp_path / "bamboo.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    found = read_long_questions(path, 400, 10, tokenizer, 1)
    assert [(one.question, one.context, one.golds) for one in found] == [
        ("when was it", "Snow fell.\n\nIt was 1964.", ("1964",)),
        ("when was it", "Snow fell.\n\nIt was 1964.", ("1964",)),
        ("What did Ann say?\nA. Yes, twice.\nB. No.", "Ann: no.", ("B", "No.")),
    ]


@pytest.mark.slow
def test_ways_by_length(folder, tiny_generator, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RAG_GENERATOR", str(tiny_generator))
    monkeypatch.setenv("RAG_CACHE", str(tmp_path))
    flags = ["--lengths", "400,600,99999", "--etas", "0,5", "--max-tokens", "12", "--json"]
    assert main(["eval", "longctx", str(folder), *flags, "--draft-tokens", "3"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    ways = [("long", None), ("retrieved", None), ("free", None), ("speculative", None)]
    ways += [("rapid", 0.0), ("rapid", 5.0)]
    assert [(row["way"], row["eta"]) for row in rows] == ways * 2
    assert "99999 tokens left out" in captured.err
    by_way = {(row["length"], row["way"], row["eta"]): row for row in rows}
    for length in (400, 600):
        long, free, speculative = (
            by_way[(length, way, None)] for way in ("long", "free", "speculative")
        )
        assert (free["f1"], free["em"]) == (long["f1"], long["em"])
        assert (speculative["f1"], speculative["em"]) == (long["f1"], long["em"])
        assert speculative["alpha"] == pytest.approx(1.0, abs=0.1)
        assert long["speed_up"] == 1.0
        assert long["alpha"] is None
    assert all(one["length"] <= other["length"] for one, other in pairwise(rows))


def test_what_is_no_list_of_lengths(folder):
    assert main(["eval", "longctx", str(folder), "--lengths", "long"]) == UsageError.exit_code

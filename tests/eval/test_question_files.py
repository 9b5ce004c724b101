from __future__ import annotations

import gzip
import json

import pytest

from eval.question_files import read_questions
from eval.question_set import Question
from eval.sampling import sample
from indexes.errors import EvidentError, UsageError

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Old_Norse",
            "paragraphs": [
                {
                    "context": "Rollo led them.",
                    "qas": [
                        {
                            "id": "a",
                            "question": "Who led?",
                            "answers": [{"text": "Rollo", "answer_start": 0}] * 2,
                            "is_impossible": False,
                        },
                        {
                            "id": "b",
                            "question": "Who fled?",
                            "answers": [],
                            "plausible_answers": [{"text": "Rollo", "answer_start": 0}],
                            "is_impossible": True,
                        },
                    ],
                }
            ],
        }
    ],
}
EARLY = {
    "example_id": 7,
    "question_text": "who won",
    "paragraph_text": "Ann won in 2010 .",
    "title_text": "Races",
    "answer_text": ["Ann"],
    "annotation": [],
}
FINAL = {
    "example_id": -8,
    "question_text": "when was it",
    "paragraph_text": "Ann won in 2010 .",
    "title_text": "Races",
    "original_nq_answers": [[{"start": 11, "end": 15, "string": "2010"}], [{"string": "in 2010"}]],
    "annotation": {"answer": []},
}
MRQA = {
    "context": "The SET domain is typical.",
    "qas": [{"qid": "m", "question": "Which domain?", "answers": ["SET domain"], "extra": 1}],
}


def lines(path, *rows):
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["dev-v2.0.json", "dev-v2.0.json.gz"])
def test_squad(tmp_path, name):
    data = read_questions(lines(tmp_path / name, SQUAD))
    assert data.questions == [
        Question("a", "Who led?", ("Rollo",), frozenset({"squad-00000"})),
        Question("b", "Who fled?", ()),
    ]
    (document,) = data.corpus.documents()
    assert (document.id, document.title, document.text) == (
        "squad-00000",
        "Old Norse",
        "Rollo led them.",
    )
    assert (data.name, data.split) == ("dev-v2", "")


def test_qed_in_both_formats(tmp_path):
    lost = {**EARLY, "example_id": 9, "answer_text": [""]}
    data = read_questions(lines(tmp_path / "qed.jsonlines.gz", EARLY, FINAL, lost))
    shared = frozenset({"qed-00000"})
    assert data.questions == [
        Question("nq-7", "who won", ("Ann",), shared),
        Question("nq--8", "when was it", ("2010", "in 2010"), shared),
    ]
    assert [document.title for document in data.corpus.documents()] == ["Races"]


@pytest.mark.parametrize("head", [[], [{"header": {"dataset": "BioASQ"}}]])
def test_mrqa(tmp_path, head):
    data = read_questions(lines(tmp_path / "dev.jsonl", *head, MRQA))
    (question,) = data.questions
    assert question == Question("m", "Which domain?", ("SET domain",), frozenset({"mrqa-00000"}))


def test_folders_with_answers(animals):
    data = read_questions(animals, "test")
    assert data.questions[0] == Question(
        "q1", "who hunts mice at night", ("owl", "fox"), frozenset({"owl", "fox"})
    )
    assert data.corpus.path == animals
    assert len(list(data.corpus.documents())) == 5


def test_folders_without_answers(animals):
    (animals / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": "x"}) + "\n" for i in range(1, 5))
    )
    with pytest.raises(EvidentError, match="no question with an answer"):
        read_questions(animals)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.json", b"{", "is not JSON"),
        ("x.json", b'{"data": 1}', "is no SQuAD file.*data"),
        ("x.json.gz", b"no gzip", "is not JSON"),
        ("x.json", b'{"data": []}', "no question with an answer"),
        ("x.jsonl", b'{"a": 1}\n', "neither QED .* nor MRQA"),
        ("x.jsonl", b"", "holds no record"),
        ("x.jsonl", b'{"question_text": "x"}\n', "line 1.*example_id"),
        ("x.jsonl", b'{"qas": [{"qid": "1"}], "context": "c"}\n', "line 1.*question"),
    ],
)
def test_broken_files(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvidentError, match=reason):
        read_questions(tmp_path / name)


def test_questions_that_clash(tmp_path):
    with pytest.raises(EvidentError, match="'nq-7' is there twice"):
        read_questions(lines(tmp_path / "x.jsonl", EARLY, EARLY))
    blank = lines(tmp_path / "y.jsonl", {**MRQA, "qas": [{**MRQA["qas"][0], "question": " "}]})
    with pytest.raises(EvidentError, match="'m' is blank"):
        read_questions(blank)
    with pytest.raises(UsageError, match="only a folder has splits"):
        read_questions(tmp_path / "x.jsonl", "dev")
    with pytest.raises(EvidentError, match="there is no file"):
        read_questions(tmp_path / "none.json")


def test_samples():
    items = list(range(100))
    assert sample(items, None, 0) == sample(items, 100, 0) == items
    drawn = sample(items, 10, 1)
    assert drawn == sorted(set(drawn)) == sample(items, 10, 1)
    assert drawn != sample(items, 10, 2)
    with pytest.raises(UsageError):
        sample(items, 0, 0)


@pytest.mark.parametrize(
    ("parts", "n_questions", "n_unanswerable", "n_documents"),
    [
        (("squad_v2_dev_cs224n", "cs224n_dev-v2.0.json.gz"), 6078, 3168, 646),
        (("qed", "qed-dev.jsonlines.gz"), 1355, 0, 1343),
        (("qed", "nq-train-00to05-qed.early-format.jsonlines.gz"), 7147, 0, 6854),
        (("mrqa_fewshot", "naturalquestions"), 5015, 0, 4895),
        (("mrqa_fewshot", "bioasq", "dev-regular.jsonl.gz"), 400, 0, 400),
    ],
)
def test_reads_the_shared_sets(shared, parts, n_questions, n_unanswerable, n_documents):
    data = read_questions(shared("qa", *parts))
    assert len(data.questions) == n_questions
    assert sum(not question.answers for question in data.questions) == n_unanswerable
    assert sum(1 for _ in data.corpus.documents()) == n_documents

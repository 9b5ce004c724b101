from __future__ import annotations

import gzip
import json

import pytest

from eval.beir import read_beir
from eval.dataset import Query
from eval.qrels import read_qrels
from indexes.document import Document
from indexes.errors import InvalidInput, MalformedInput, NotFound

CORPUS = [
    {"_id": "d1", "title": "One", "text": "first", "metadata": {"year": 1999}},
    {"_id": "d2", "text": "second"},
]
QUERIES = [
    {"_id": "q1", "text": "one?", "metadata": {"answers": ["1", "one"]}},
    {"_id": "q2", "text": "two?"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n"


def write_set(folder, corpus=CORPUS, queries=QUERIES, qrels=None, *, packed=False):
    folder.mkdir(exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path = folder / f"{name}.jsonl{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(text) if packed else text)
    (folder / "qrels").mkdir(exist_ok=True)
    for split, content in (qrels or {"test": QRELS}).items():
        (folder / "qrels" / f"{split}.tsv").write_text(content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_reads_a_folder(tmp_path, packed):
    dataset = read_beir(write_set(tmp_path / "tiny", packed=packed))
    assert (dataset.name, dataset.split, dataset.drop_self) == ("tiny", "test", False)
    assert dataset.queries == {"q1": Query("q1", "one?", ("1", "one"))}
    assert dataset.qrels == {"q1": {"d1": 1, "d2": 0}}
    first, second = dataset.documents()
    assert first == Document("d1", "first", "One", {"year": 1999})
    assert second == Document("d2", "second")
    assert list(dataset.documents()) == [first, second]


def test_the_header_is_optional(tmp_path):
    bare = QRELS.split("\n", 1)[1]
    dataset = read_beir(write_set(tmp_path / "tiny", qrels={"test": bare}))
    assert dataset.qrels == {"q1": {"d1": 1, "d2": 0}}


def test_split_choice(tmp_path):
    folder = write_set(tmp_path / "tiny", qrels={"dev": QRELS})
    assert read_beir(folder).split == "dev"
    write_set(folder, qrels={"train": "q2\td1\t1\n"})
    with pytest.raises(InvalidInput, match="several splits, choose one: dev, train"):
        read_beir(folder)
    assert list(read_beir(folder, "train").queries) == ["q2"]
    with pytest.raises(NotFound, match=r"no split 'tset'.* dev, train"):
        read_beir(folder, "tset")


@pytest.mark.parametrize("name", ["arguana", "BEIR-Quora"])
def test_sets_whose_queries_are_documents_drop_them(tmp_path, name):
    assert read_beir(write_set(tmp_path / name)).drop_self


@pytest.mark.parametrize("lost", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_missing_files(tmp_path, lost):
    folder = write_set(tmp_path / "tiny")
    (folder / lost).unlink()
    with pytest.raises(NotFound, match=lost.split("/")[0].split(".")[0]):
        read_beir(folder)
    with pytest.raises(NotFound):
        read_beir(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"qrels": {"test": "q9\td1\t1\n"}}, "unknown queries: 'q9'"),
        ({"qrels": {"test": "q1\td9\t1\n"}}, "unknown documents: 'd9'"),
        ({"corpus": [*CORPUS, CORPUS[0]]}, "line 3: document id 'd1' is there twice"),
        ({"queries": [*QUERIES, QUERIES[0]]}, "line 3: the query id 'q1' is there twice"),
        ({"queries": [{"_id": 7, "text": "x"}]}, "line 1: Expected `str`"),
        ({"queries": [{"_id": "q1"}]}, "line 1.*text"),
    ],
)
def test_broken_sets(tmp_path, change, reason):
    with pytest.raises(InvalidInput, match=reason):
        read_beir(write_set(tmp_path / "tiny", **change))


def test_lines_that_are_no_json(tmp_path):
    folder = write_set(tmp_path / "tiny")
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "x"}\n{"_id"\n')
    with pytest.raises(MalformedInput, match="line 2 is not JSON"):
        read_beir(folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("q1\td1\tx\n", "line 1: the score 'x'"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1.5\n", "line 2: the score '1.5'"),
        ("q1\td1\tnan\n", "line 1"),
        ("q1\td1\n", "line 1: expected 3 columns .* found 2"),
        ("q1\t\t1\n", "an id is empty"),
        ("q1\td1\t1\nq1\td1\t2\n", "line 2.*judged 1 and 2"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgement"),
        ("", "holds no judgement"),
    ],
)
def test_broken_judgements(tmp_path, content, reason):
    path = tmp_path / "x.tsv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=reason):
        read_qrels(path)


def test_trec_judgements_and_harmless_repeats(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("19335 0 1017759 -1\n19335 0 8412684 3\n19335 0 8412684 3\n")
    assert read_qrels(path) == {"19335": {"1017759": -1, "8412684": 3}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "split", "n_queries", "n_documents"),
    [
        (("beir", "scifact"), None, 300, 5183),
        (("beir", "nfcorpus"), "dev", 324, 3633),
        (("classic", "cranfield"), None, 225, 1400),
        (("classic", "cacm"), None, 52, 3204),
        (("qa", "hotpot_para_beir"), None, 2527, 11047),
    ],
)
def test_reads_the_shared_sets(shared, parts, split, n_queries, n_documents):
    dataset = read_beir(shared(*parts), split)
    assert len(dataset.queries) == len(dataset.qrels) == n_queries
    assert sum(1 for _ in dataset.documents()) == n_documents

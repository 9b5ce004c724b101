from __future__ import annotations

import json
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest

from eval.dataset import Query
from eval.ir_data import read_ir_dataset
from indexes.document import Document
from indexes.errors import DownloadFailed, InvalidInput, NotFound, Unsupported
from rag.cli.main import main

TitledDoc = namedtuple("TitledDoc", "doc_id text title")
Topic = namedtuple("Topic", "query_id text")
Judgement = namedtuple("Judgement", "query_id doc_id relevance iteration")


class FieldDoc(namedtuple("FieldDoc", "doc_id abstract")):
    def default_text(self):
        return self.abstract


def stand_in(monkeypatch, parts, *, offline=False):
    """The package needs the network, so a module with its documented surface takes its place."""

    def rows(name):
        if offline:
            raise ConnectionError("no route to host")
        return iter(parts[name])

    handle = SimpleNamespace(
        has=lambda name: name in parts,
        docs_iter=lambda: rows("docs"),
        queries_iter=lambda: rows("queries"),
        qrels_iter=lambda: rows("qrels"),
    )
    module = SimpleNamespace(load={"beir/tiny/test": handle}.__getitem__)
    monkeypatch.setitem(sys.modules, "ir_datasets", module)


PARTS = {
    "docs": [TitledDoc("d1", "first", "One"), FieldDoc("d2", "second")],
    "queries": [Topic("q1", "one?"), Topic("q2", "not judged")],
    "qrels": [Judgement("q1", "d1", 2, "0")],
}


def test_reads_documents_queries_and_judgements(monkeypatch):
    stand_in(monkeypatch, PARTS)
    dataset = read_ir_dataset("beir/tiny/test")
    assert (dataset.name, dataset.split) == ("beir/tiny", "test")
    assert dataset.queries == {"q1": Query("q1", "one?")}
    assert dataset.qrels == {"q1": {"d1": 2}}
    assert list(dataset.documents()) == [Document("d1", "first", "One"), Document("d2", "second")]


def test_errors_say_what_is_wrong(monkeypatch):
    stand_in(monkeypatch, PARTS)
    with pytest.raises(NotFound, match="neither a folder nor an ir_datasets id"):
        read_ir_dataset("beir/none")
    stand_in(monkeypatch, {"docs": PARTS["docs"]})
    with pytest.raises(InvalidInput, match="no queries and no qrels"):
        read_ir_dataset("beir/tiny/test")
    stand_in(monkeypatch, PARTS, offline=True)
    with pytest.raises(DownloadFailed, match="no route to host"):
        read_ir_dataset("beir/tiny/test")
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(Unsupported, match="pip install ir_datasets"):
        read_ir_dataset("beir/tiny/test")


def test_a_corpus_from_the_package_is_indexed_and_searched(monkeypatch, tmp_path, capsys):
    stand_in(monkeypatch, PARTS | {"queries": [Topic("q1", "first"), Topic("q2", "second")]})
    command = ["eval", "beir", "beir/tiny/test", "--retrievers", "bm25", "--timed", "0", "--json"]
    assert main([*command, "--root", str(tmp_path), "--measure", "RR@10"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"] == {"RR@10": 1.0}
    assert main([*command, "--root", str(tmp_path)]) == 0
    assert "up to date" in capsys.readouterr().err

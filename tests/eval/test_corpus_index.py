from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.corpus_index import Corpus, IndexPlan, default_name, ensure_index, write_corpus
from indexes.document import Document
from indexes.errors import InvalidInput
from indexes.library import check_name
from indexes.passages import PassageConfig
from indexes.snapshot import Snapshot
from rag.progress import Silent
from rag.retrievers.retriever import parse_specs

PLAN = IndexPlan(parse_specs("bm25"))


@given(st.text(), st.text())
def test_every_data_set_has_an_index_name(dataset, origin):
    check_name(default_name(dataset, origin, PLAN))


def test_names_tell_corpora_and_plans_apart():
    plans = [PLAN, IndexPlan(parse_specs("bm25:k1=1.2")), IndexPlan(parse_specs("bm25,minilm"))]
    plans.append(msgspec.structs.replace(PLAN, passages=PassageConfig(max_words=0)))
    names = {default_name("beir", origin, plan) for origin in ("a", "b") for plan in plans}
    assert len(names) == 8
    assert default_name("beir", "a", PLAN) == default_name("beir", "a", PLAN)
    assert default_name("SciFact", "a", PLAN).startswith("eval-scifact-bm25-")


def test_a_stream_is_built_once_and_again_when_it_changes(settings):
    documents = [Document("a", "first text", "A", {"year": 1999}), Document("b", "second text")]
    corpus = Corpus(lambda: iter(documents))
    first = ensure_index("made", corpus, PLAN, settings, Silent())
    again = ensure_index("made", corpus, PLAN, settings, Silent())
    assert (first.up_to_date, again.up_to_date, again.version) == (False, True, first.version)
    snapshot = Snapshot(settings.root / "made")
    assert [snapshot.document(one.id) for one in documents] == documents
    snapshot.close()
    documents.append(Document("c", "third text"))
    assert ensure_index("made", corpus, PLAN, settings, Silent()).n_documents == 3


def test_nothing_to_index_is_an_error(settings):
    with pytest.raises(InvalidInput, match="no usable document"):
        ensure_index("made", Corpus(lambda: iter([])), PLAN, settings, Silent())


def test_written_corpora_are_streams_of_lines(tmp_path):
    path = tmp_path / "corpus.jsonl"
    write_corpus(path, (Document(str(i), "line\nbreak") for i in range(3)))
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [row["_id"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["text"] == "line\nbreak"

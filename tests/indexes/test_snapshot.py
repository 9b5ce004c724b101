"""Searching equals brute force over a dictionary: filters, deletions, segments, passages."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from library import BM25, BOTH, DENSE, build, stored, term_rows, texts_of, toy_vector, upsert

from indexes.bounded_cache import BoundedCache
from indexes.document import Document, passage_bytes
from indexes.document_store import DocumentStore
from indexes.errors import (
    CorruptIndex,
    DocumentNotFound,
    EvidentError,
    IndexLocked,
    IndexNotFound,
    UsageError,
)
from indexes.filters import Condition, Filter, Range
from indexes.manifest import read_manifest
from indexes.representation import QueryVector, SparseVector
from indexes.snapshot import Snapshot
from indexes.writer import IndexWriter

WORDS = ["cat", "dog", "fish", "bird", "tree", "river", "stone", "cloud"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)
years = st.integers(2000, 2003)


def dense_ranking(corpus: dict[str, Document], query: np.ndarray) -> list[tuple[str, float]]:
    """Each document by its best passage."""
    ready = stored(list(corpus.values()))
    best = {
        s.document.id: max(float(toy_vector(text) @ query) for text in texts_of([s])) for s in ready
    }
    return sorted(best.items(), key=lambda pair: -pair[1])


class Model(RuleBasedStateMachine):
    """Upserts, deletes and compactions against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name) / "index"
        first = Document("d0", "cat dog fish", "", {"year": 2000})
        build(self.folder, [first])
        self.corpus = {"d0": first}

    @rule(key=st.integers(0, 5), text=texts, year=years)
    def upsert(self, key, text, year):
        document = Document(f"d{key}", text, f"title {key}", {"year": year})
        upsert(self.folder, [document])
        self.corpus[document.id] = document

    @rule(key=st.integers(0, 5))
    def delete(self, key):
        with IndexWriter(self.folder) as writer:
            if f"d{key}" in self.corpus:
                writer.delete([f"d{key}"])
                del self.corpus[f"d{key}"]
            else:
                with pytest.raises(DocumentNotFound):
                    writer.delete([f"d{key}"])

    @rule()
    def compact(self):
        with IndexWriter(self.folder) as writer:
            writer.compact()

    @invariant()
    def reads_agree(self):
        snapshot = Snapshot(self.folder)
        try:
            assert sorted(snapshot.live_ids()) == sorted(self.corpus)
            assert snapshot.manifest.n_documents == len(self.corpus)
            query = toy_vector("the query")
            for wanted in (None, 2001):
                chosen = Filter(must=[Condition("year", match=wanted)]) if wanted else None
                corpus = {
                    key: d
                    for key, d in self.corpus.items()
                    if wanted in (None, d.metadata.get("year"))
                }
                found = snapshot.search(
                    "toy", QueryVector(dense=query), 4, snapshot.allowed(chosen)
                )
                ids = [p.document_id for p in snapshot.fetch(found.rows.tolist())]
                expected = dense_ranking(corpus, query)[:4]
                assert ids == [key for key, _ in expected]
                assert found.scores == pytest.approx([score for _, score in expected], abs=1e-6)
        finally:
            snapshot.close()

    def teardown(self):
        self.scratch.cleanup()


Model.TestCase.settings = settings(max_examples=8, stateful_step_count=8, deadline=None)
test_model = pytest.mark.slow(Model.TestCase)


@pytest.mark.slow
def test_sparse_and_dense_parts_add_up(tmp_path):
    docs = [Document(str(n), " ".join(WORDS[n : n + 3]) * 3) for n in range(6)]
    build(tmp_path / "i", docs, [BOTH])
    snapshot = Snapshot(tmp_path / "i")
    query = QueryVector(SparseVector(["cat", "dog"], [0.5, 2.0]), toy_vector("q"))
    found = snapshot.search("duplex", query, 10, snapshot.allowed(None))
    texts = texts_of(stored(docs))
    rows = term_rows(texts)
    best: dict[str, float] = {}
    owners = [s.document.id for s in stored(docs) for _ in s.spans]
    for number, text in enumerate(texts):
        held = dict(
            zip(
                [
                    rows.vocabulary[t]
                    for t in rows.term_ids[rows.indptr[number] : rows.indptr[number + 1]]
                ],
                rows.weights[rows.indptr[number] : rows.indptr[number + 1]],
                strict=True,
            )
        )
        score = (
            0.5 * held.get("cat", 0) + 2.0 * held.get("dog", 0) + toy_vector(text) @ toy_vector("q")
        )
        best[owners[number]] = max(best.get(owners[number], -9.0), float(score))
    ids = [p.document_id for p in snapshot.fetch(found.rows.tolist())]
    assert ids == sorted(best, key=lambda key: -best[key])
    assert found.scores == pytest.approx(sorted(best.values(), reverse=True), abs=1e-5)


def test_a_reader_keeps_its_snapshot_while_a_writer_commits(tmp_path):
    build(tmp_path / "i", [Document("a", "cat"), Document("b", "dog")])
    before = Snapshot(tmp_path / "i")
    with IndexWriter(tmp_path / "i") as writer:
        writer.delete(["a"])
        writer.compact()
    assert before.document("a").text == "cat"
    found = before.search("toy", QueryVector(dense=toy_vector("cat")), 1, before.allowed(None))
    assert before.fetch(found.rows.tolist())[0].document_id == "a"
    after = Snapshot(tmp_path / "i")
    assert after.live_ids() == ["b"]
    assert after.manifest.version == before.manifest.version + 2


@pytest.mark.slow
def test_readers_open_while_writers_commit(tmp_path):
    build(tmp_path / "i", [Document("a", "cat"), Document("b", "dog")])
    stop, failures = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                snapshot = Snapshot(tmp_path / "i")
                assert "b" in snapshot.live_ids()
                snapshot.close()
            except EvidentError as error:
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(6):
        upsert(tmp_path / "i", [Document("a", f"cat {number}")])
        with IndexWriter(tmp_path / "i") as writer:
            writer.compact()
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures


def test_one_writer_at_a_time(tmp_path):
    build(tmp_path / "i", [Document("a", "cat")])
    with (
        IndexWriter(tmp_path / "i"),
        pytest.raises(IndexLocked, match="being written by process"),
        IndexWriter(tmp_path / "i"),
    ):
        pytest.fail("two writers at once")


def test_hostile_ids_and_texts_survive_unchanged(tmp_path):
    docs = [
        Document("../../etc/passwd", "a path as an id"),
        Document("'; DROP TABLE documents; --", "sql as an id"),
        Document("😀", "emoji 😀 and \u202eright to left שלום عربى"),
        Document("e\u0301", "decomposed"),
        Document("é", "composed"),
    ]
    build(tmp_path / "i", docs)
    snapshot = Snapshot(tmp_path / "i")
    assert sorted(snapshot.live_ids()) == sorted(d.id for d in docs)
    for document in docs:
        assert snapshot.document(document.id) == document
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i"]


def test_a_title_without_text_is_searchable(tmp_path):
    build(tmp_path / "i", [Document("a", "", "cats and dogs"), Document("b", "a stone")])
    snapshot = Snapshot(tmp_path / "i")
    query = QueryVector(sparse=SparseVector(["cat"], [1.0]))
    found = snapshot.search("bm25", query, 5, snapshot.allowed(None))
    assert [p.document_id for p in snapshot.fetch(found.rows.tolist())] == ["a"]


def test_unknown_names(tmp_path):
    with pytest.raises(IndexNotFound):
        Snapshot(tmp_path / "nothing")
    build(tmp_path / "i", [Document("a", "cat")], [BM25])
    snapshot = Snapshot(tmp_path / "i")
    with pytest.raises(UsageError, match="bm25"):
        snapshot.search("toy", QueryVector(), 1, snapshot.allowed(None))
    with pytest.raises(DocumentNotFound):
        snapshot.document("b")


METADATA = {"year": 1999, "tags": ["x", "y"], "deep": {"lang": "en"}, "open": True, "rate": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        (Condition("year", match=1999), True),
        (Condition("year", match=1999.0), True),
        (Condition("year", match="1999"), False),
        (Condition("year", any_of=[1, 1999]), True),
        (Condition("tags", match="y"), True),
        (Condition("tags", any_of=["z"]), False),
        (Condition("deep.lang", match="en"), True),
        (Condition("deep.lang", range=Range(gte="e", lt="f")), True),
        (Condition("deep.lang", range=Range(gt=1)), False),
        (Condition("open", match=True), True),
        (Condition("open", match="true"), False),
        (Condition("rate", range=Range(gt=0.4, lte=0.5)), True),
        (Condition("absent", exists=True), False),
        (Condition("absent", exists=False), True),
        (Condition("absent", match="x"), False),
        (Condition("deep", exists=True), True),
        (Condition("' OR 1=1 --", match="x"), False),
    ],
)
def test_conditions(tmp_path, condition, passes):
    build(tmp_path / "i", [Document("a", "cat", "", METADATA)], [BM25])
    snapshot = Snapshot(tmp_path / "i")
    for chosen, expected in (
        (Filter(must=[condition]), passes),
        (Filter(must_not=[condition]), not passes),
        (Filter(should=[condition, Condition("year", match=0)]), passes),
    ):
        assert snapshot.allowed(chosen)[0].tolist() == [expected]


def flipped(path: Path, position: int, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


@pytest.mark.slow
def test_no_flipped_byte_goes_unnoticed(tmp_path):
    folder = tmp_path / "i"
    build(folder, [Document(str(n), " ".join(WORDS[: n + 1])) for n in range(4)])
    upsert(folder, [Document("1", "changed")])
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "write.lock"]
    assert len(files) > 20
    rng = np.random.default_rng(7)
    for path in files:
        original = path.read_bytes()
        for position in rng.choice(len(original), size=min(6, len(original)), replace=False):
            flipped(path, int(position), rng)
            with pytest.raises(CorruptIndex):
                Snapshot(folder, checksums=True).close()
            path.write_bytes(original)
    Snapshot(folder, checksums=True).close()


def test_a_truncated_or_missing_file_is_named(tmp_path):
    folder = tmp_path / "i"
    build(folder, [Document("a", "cat")])
    segment = folder / "segments" / read_manifest(folder).segments[0].id
    rows = segment / "bm25.rows.npy"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(CorruptIndex, match=r"bm25\.rows\.npy"):
        Snapshot(folder)
    rows.unlink()
    with pytest.raises(CorruptIndex, match="missing"):
        Snapshot(folder)


def test_retrievers_of_one_index_see_the_same_deletions(tmp_path):
    build(tmp_path / "i", [Document("a", "cat"), Document("b", "cat dog")], [BM25, DENSE])
    with IndexWriter(tmp_path / "i") as writer:
        writer.delete(["a"])
    snapshot = Snapshot(tmp_path / "i")
    for name, query in (
        ("bm25", QueryVector(sparse=SparseVector(["cat"], [1.0]))),
        ("toy", QueryVector(dense=toy_vector("cat"))),
    ):
        found = snapshot.search(name, query, 5, snapshot.allowed(None))
        assert [p.document_id for p in snapshot.fetch(found.rows.tolist())] == ["b"]


def test_passages_are_read_once_and_known_after_a_commit(tmp_path, monkeypatch):
    texts = ["cat and dog", "river", "a tree, a bird", "stone"]
    build(tmp_path / "i", [Document(str(number), text) for number, text in enumerate(texts)])
    known = BoundedCache(100_000, lambda _, passage: passage_bytes(passage))
    plain = Snapshot(tmp_path / "i").fetch([3, 0, 2])
    before = Snapshot(tmp_path / "i", passages=known)
    assert before.fetch([3, 0]) == [plain[0], plain[1]]
    asked = []
    read = DocumentStore.passages
    monkeypatch.setattr(
        DocumentStore, "passages", lambda store, rows: asked.append(rows) or read(store, rows)
    )
    assert before.fetch([3, 0, 2]) == plain
    upsert(tmp_path / "i", [Document("0", "cat no more"), Document("9", "new")])
    after = Snapshot(tmp_path / "i", passages=known)
    assert after.fetch([3, 0, 2]) == plain
    assert asked == [[2]]
    row = sum(segment.n_passages for segment in before.segments)
    assert [one.text for one in after.fetch([row])] == ["cat no more"]

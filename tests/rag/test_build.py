"""Builds of real files: bad input, resuming, changed inputs, and what a person is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest

import rag.build
from indexes.analyzer import AnalyzerConfig
from indexes.errors import InvalidInput, UsageError
from indexes.manifest import read_manifest
from indexes.passages import PassageConfig
from indexes.snapshot import Snapshot
from rag.build import BuildReport, BuildRequest, build_index
from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.bm25 import Bm25Retriever
from rag.retrievers.retriever import parse_specs
from rag.search import SearchRequest
from rag.service import Service
from rag.update import update_index


class Home:
    """A root folder and the short calls that tests need."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(root=root / "indexes", cache=root / "cache")
        self.rejects = root / "rejects.jsonl"

    def build(self, *inputs: Path, **changes: object) -> BuildReport:
        request = BuildRequest(
            name="i",
            inputs=list(inputs),
            retrievers=parse_specs("bm25"),
            analyzer=AnalyzerConfig(),
            passages=PassageConfig(),
            rejects=self.rejects,
        )
        return build_index(msgspec.structs.replace(request, **changes), self.settings, Silent())

    def update(self, *inputs: Path) -> BuildReport:
        return update_index("i", list(inputs), self.rejects, self.settings, Silent())

    def search(self, query: str) -> list[str]:
        service = Service(self.settings)
        try:
            return [h.id for h in service.search(SearchRequest(index="i", query=query)).hits]
        finally:
            service.close()

    def rejected(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.rejects.read_text().splitlines()]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_bad_documents_are_listed_and_the_rest_is_searchable(home, tmp_path):
    lines = [
        json.dumps({"id": "a", "text": "cats purr"}).encode(),
        b'{"id": "b", "text": "cut in the mid',
        json.dumps({"id": "c", "text": "   "}).encode(),
        b'{"id": "d", "text": "bad \xff\xfe bytes"}',
        json.dumps({"id": "a", "text": "the second a"}).encode(),
        json.dumps({"id": "nul\0", "text": "text"}).encode(),
        json.dumps({"id": "../../x", "text": "dogs bark"}).encode(),
        json.dumps({"text": "no id"}).encode(),
        json.dumps({"id": "e", "text": 5}).encode(),
        json.dumps({"id": "😀", "text": "emoji 🦊 and עברית"}).encode(),
    ]
    source = tmp_path / "bad.jsonl"
    source.write_bytes(b"\n".join(lines))
    report = home.build(source)
    assert (report.n_documents, report.n_rejected) == (3, 7)
    assert sorted(row["line"] for row in home.rejected()) == [2, 3, 4, 5, 6, 8, 9]
    assert all(row["reason"] for row in home.rejected())
    assert home.search("dogs") == ["../../x"]
    assert home.search("🦊") == ["😀"]
    assert home.search("second") == []
    assert sorted(p.name for p in home.settings.root.iterdir()) == ["i"]


def test_an_empty_corpus_is_an_error_and_changes_nothing(home, tmp_path):
    home.build(jsonl(tmp_path / "a.jsonl", [{"id": "a", "text": "cats"}]))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(InvalidInput, match="no usable document"):
        home.build(empty)
    assert home.search("cats") == ["a"]
    with pytest.raises(UsageError):
        home.build(tmp_path / "absent.jsonl")


@pytest.mark.slow
def test_a_ten_megabyte_document_becomes_passages(home, tmp_path):
    text = "The quick brown fox jumps over the lazy dog. " * 230_000 + "A unique axolotl ends it."
    report = home.build(jsonl(tmp_path / "big.jsonl", [{"id": "big", "text": text}]))
    assert report.n_documents == 1
    assert report.n_passages > 1000
    service = Service(home.settings)
    (hit,) = service.search(SearchRequest(index="i", query="axolotl")).hits
    assert text[hit.start : hit.start + len(hit.text)] == hit.text
    assert "axolotl" in hit.text
    service.close()


def rows(n: int, word: str = "stone") -> list[object]:
    return [{"id": f"d{k}", "text": f"{word} number {k}"} for k in range(n)]


def test_an_interrupted_build_goes_on_where_it_stopped(home, tmp_path, monkeypatch):
    monkeypatch.setattr(rag.build, "SHARD_DOCUMENTS", 4)
    source = jsonl(tmp_path / "a.jsonl", rows(18))
    real, written = rag.build.encode_shard, []

    def interrupted(folder, *args):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(folder.name)
        return real(folder, *args)

    monkeypatch.setattr(rag.build, "encode_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        home.build(source)
    monkeypatch.setattr(rag.build, "encode_shard", real)
    report = home.build(source)
    assert (report.resumed, report.n_documents) == (12, 18)
    snapshot = Snapshot(home.settings.root / "i", checksums=True)
    assert len(set(snapshot.live_ids())) == 18
    assert not (home.settings.root / "i" / "build").exists()
    assert home.build(source).up_to_date


def test_a_changed_input_is_never_taken_for_done(home, tmp_path, monkeypatch):
    monkeypatch.setattr(rag.build, "SHARD_DOCUMENTS", 4)
    source = jsonl(tmp_path / "a.jsonl", rows(10))
    real = rag.build.IndexWriter.replace
    monkeypatch.setattr(rag.build.IndexWriter, "replace", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        home.build(source)
    monkeypatch.setattr(rag.build.IndexWriter, "replace", real)
    jsonl(source, rows(10, "river"))
    assert home.build(source).resumed == 0
    assert len(home.search("river")) == 10
    assert home.search("stone") == []


def _interrupt(*_args: object) -> None:
    raise KeyboardInterrupt


def test_a_damaged_shard_is_made_again(home, tmp_path, monkeypatch):
    monkeypatch.setattr(rag.build, "SHARD_DOCUMENTS", 4)
    source = jsonl(tmp_path / "a.jsonl", rows(10))
    real = rag.build.IndexWriter.replace
    monkeypatch.setattr(rag.build.IndexWriter, "replace", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        home.build(source)
    monkeypatch.setattr(rag.build.IndexWriter, "replace", real)
    damaged = home.settings.root / "i" / "build" / "segments" / "shard-00001" / "bm25.rows.npy"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    report = home.build(source)
    assert (report.resumed, report.n_documents) == (6, 10)


def test_a_rebuild_replaces_everything(home, tmp_path):
    home.build(jsonl(tmp_path / "a.jsonl", rows(5)))
    home.build(jsonl(tmp_path / "b.jsonl", [{"id": "new", "text": "cloud"}]))
    manifest = read_manifest(home.settings.root / "i")
    assert (manifest.version, manifest.n_documents) == (2, 1)
    assert home.search("stone") == []


@pytest.mark.slow
def test_unchanged_documents_are_not_represented_again(home, tmp_path, monkeypatch):
    monkeypatch.setattr(rag.build, "SHARD_DOCUMENTS", 4)
    long = {"id": "long", "text": "A stone rolls down the hill. " * 200}
    home.build(jsonl(tmp_path / "a.jsonl", [*rows(9), long]))
    home.update(jsonl(tmp_path / "u.jsonl", [{"id": "d2", "text": "a stone in the river"}]))
    encoded: list[str] = []
    real = Bm25Retriever.encode_passages

    def counted(self, texts, on_done):
        encoded.extend(texts)
        return real(self, texts, on_done)

    monkeypatch.setattr(Bm25Retriever, "encode_passages", counted)
    changed = [
        rows(9)[8],
        {"id": "d3", "text": "cloud"},
        long,
        *rows(3),
        {"id": "d7", "text": "stone number 7"},
    ]
    home.build(jsonl(tmp_path / "b.jsonl", changed))
    # d2 was replaced by an update, but its first text still lies in the old segment.
    assert encoded == ["cloud"]
    reused = read_manifest(home.settings.root / "i")
    home.build(tmp_path / "b.jsonl", name="fresh")
    fresh = read_manifest(home.settings.root / "fresh")
    arrays = [
        {name: entry for name, entry in manifest.segments[0].files.items() if ".npy" in name}
        for manifest in (reused, fresh)
    ]
    assert arrays[0] == arrays[1]
    assert len(encoded) == 1 + fresh.n_passages
    encoded.clear()
    home.build(tmp_path / "b.jsonl", name="other", reuse=["fresh", "absent"])
    assert encoded == []
    home.build(tmp_path / "b.jsonl", restart=True)
    assert len(encoded) == fresh.n_passages


def test_updates_replace_by_id_and_are_found_at_once(home, tmp_path):
    home.build(jsonl(tmp_path / "a.jsonl", rows(5)))
    service = Service(home.settings)
    assert len(service.search(SearchRequest(index="i", query="stone")).hits) == 5
    report = home.update(jsonl(tmp_path / "b.jsonl", [{"id": "d1", "text": "cloud"}, {"id": "x"}]))
    assert (report.n_documents, report.n_rejected) == (5, 1)
    response = service.search(SearchRequest(index="i", query="cloud"))
    assert [hit.id for hit in response.hits] == ["d1"]
    assert response.index_version == 2
    assert len(service.search(SearchRequest(index="i", query="stone")).hits) == 4
    service.close()


def test_the_same_documents_give_the_same_corpus_hash(home, tmp_path):
    home.build(jsonl(tmp_path / "a.jsonl", rows(6)))
    first = read_manifest(home.settings.root / "i").corpus_sha256
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in reversed(rows(6)))
    home.build(tmp_path / "c.jsonl.gz")
    assert read_manifest(home.settings.root / "i").corpus_sha256 == first
    home.update(jsonl(tmp_path / "b.jsonl", [{"id": "d1", "text": "cloud"}]))
    assert read_manifest(home.settings.root / "i").corpus_sha256 != first
    home.update(jsonl(tmp_path / "d.jsonl", [rows(6)[1]]))
    assert read_manifest(home.settings.root / "i").corpus_sha256 == first


def test_odd_queries_are_answered_calmly(home, tmp_path):
    home.build(jsonl(tmp_path / "a.jsonl", rows(5)))
    service = Service(home.settings)
    for query in ("the of and", "", " \n", "💥", "\u202e", "stone " * 17_000):
        response = service.search(SearchRequest(index="i", query=query))
        assert len(response.hits) == (5 if "stone" in query else 0)
    assert "no searchable term" in service.search(SearchRequest(index="i", query="the")).warnings[0]
    service.close()

"""Searches of many threads pass the postings together and find what each finds alone."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from library import PASSAGES, stored

from indexes.analyzer import AnalyzerConfig
from indexes.commit import first_manifest
from indexes.document import Document
from indexes.manifest import RetrieverEntry
from indexes.representation import PassageVectors, QueryVector, SparseRows, SparseVector
from indexes.segment import write_segment
from indexes.snapshot import Snapshot
from indexes.writer import BUILD, IndexWriter

IMPACTS = RetrieverEntry("impacts", "splade", ["sparse"], model="toy")
TERMS = [f"t{number}" for number in range(40)]
N_DOCUMENTS = 300


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("impacts") / "index"
    rng = np.random.default_rng(5)
    rows = [rng.choice(len(TERMS), size=6, replace=False) for _ in range(N_DOCUMENTS)]
    sparse = SparseRows(
        vocabulary=TERMS,
        indptr=np.arange(0, 6 * N_DOCUMENTS + 1, 6, dtype=np.int64),
        term_ids=np.concatenate(rows).astype(np.uint32),
        weights=rng.random(6 * N_DOCUMENTS).astype(np.float32) + np.float32(0.01),
    )
    documents = stored([Document(f"d{n}", "one") for n in range(N_DOCUMENTS)])
    manifest = first_manifest("index", AnalyzerConfig(), PASSAGES, [IMPACTS])
    with IndexWriter(folder) as writer:
        shard = folder / BUILD / "segments" / "shard"
        vectors = {"impacts": PassageVectors(sparse=sparse)}
        entry = write_segment(shard, documents, vectors, [IMPACTS])
        writer.replace(manifest, [entry], folder / BUILD)
    opened = Snapshot(folder)
    yield opened
    opened.close()


def query(seed):
    rng = np.random.default_rng(seed)
    terms = [TERMS[n] for n in rng.choice(len(TERMS), size=4, replace=False)]
    return QueryVector(sparse=SparseVector(terms, rng.random(4).tolist()))


def test_together_is_alone(snapshot):
    queries = [query(seed) for seed in range(60)]
    allowed = snapshot.allowed(None)
    alone = [snapshot.search_batch("impacts", [one], 10, allowed)[0] for one in queries]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: snapshot.search("impacts", one, 10, allowed), queries))
    for here, there in zip(found, alone, strict=True):
        assert here.rows.tolist() == there.rows.tolist()
        assert here.scores.tolist() == there.scores.tolist()
        assert len(here.rows) == 10


def test_a_snapshot_goes_with_its_last_reader(snapshot):
    other = Snapshot(snapshot.folder)
    other.search("impacts", query(1), 10, other.allowed(None))
    gone = weakref.ref(other)
    gc.disable()
    try:
        del other
        assert gone() is None
    finally:
        gc.enable()

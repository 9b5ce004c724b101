"""`rag bench retrieval` on a tiny model: engines agree on what is best, and rows say so."""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).parents[1] / "retrievers"))

from toy_checkpoints import WORDS, save_bert

from indexes.errors import InvalidInput, UsageError
from indexes.representation import SparseRows
from rag.bench import seismic_engine, synthetic_corpus
from rag.bench.bm25_engines import TokenCorpus, bm25s_engine, own_bm25, rank_bm25_engine
from rag.bench.corpus_statistics import corpus_statistics
from rag.bench.engine import Engine, answers, latencies
from rag.bench.exact_product import exact_product
from rag.bench.own_engines import own_engines
from rag.bench.scipy_engine import scipy_engine
from rag.bench.sparse_corpus import SparseCorpus, encode_corpora
from rag.cli import bench
from rag.cli.main import common_flags
from rag.config import load_settings
from rag.progress import Silent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two BEIR folders of random words."""
    folders = []
    for name, n_documents in (("pets", 40), ("woods", 25)):
        folder = tmp_path_factory.mktemp("beir") / name
        folder.mkdir()
        random_ = random.Random(name)
        rows = [
            {"_id": str(n), "title": "cat", "text": " ".join(random_.choices(WORDS[:8], k=6))}
            for n in range(n_documents)
        ]
        asked = [{"_id": f"q{n}", "text": f"{WORDS[n]} {WORDS[n + 1]}"} for n in range(5)]
        for file, records in (("corpus", rows), ("queries", asked)):
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (folder / f"{file}.jsonl").write_text(lines)
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def corpus_of(seed: int, n_documents: int, n_terms: int = 300, n_queries: int = 12) -> SparseCorpus:
    """Common terms are light, as SPLADE's are."""
    generator = np.random.default_rng(seed)
    popular = 1 / np.arange(1, n_terms + 1) ** 0.8
    parts = []
    for n_rows, per_row in ((n_documents, 40), (n_queries, 10)):
        terms = generator.choice(n_terms, (n_rows, per_row), p=popular / popular.sum())
        rows = np.repeat(np.arange(n_rows), per_row)
        matrix = csr_matrix((np.ones(terms.size), (rows, terms.ravel())), shape=(n_rows, n_terms))
        matrix.sum_duplicates()
        weights = generator.gamma(2, 0.3, matrix.nnz) + 0.01
        parts.append(
            SparseRows(
                [f"t{n}" for n in range(n_terms)],
                matrix.indptr.astype(np.int64),
                matrix.indices.astype(np.uint32),
                weights.astype(np.float32),
            )
        )
    return SparseCorpus(f"made-{seed}", str(seed), *parts)


def run(arguments: list[str], cache: Path) -> int:
    parser = argparse.ArgumentParser()
    bench.add_parser(parser.add_subparsers(), common_flags())
    args = parser.parse_args(["bench", "retrieval", *arguments])
    return int(args.run(args, load_settings({"cache": str(cache), "n_threads": 1}, {})))


@pytest.mark.slow
def test_rows_of_every_corpus_and_engine(data, bert, tmp_path, capsys):
    flags = ["--model", str(bert), "--work", str(tmp_path / "work"), "--rounds", "1"]
    flags += [flag for folder in data for flag in ("--data", str(folder))]
    flags += ["--synthetic", "150", "--engines", "evident,scipy,evident-bm25,rank-bm25"]
    assert run([*flags, "--json"], tmp_path) == 0
    written = capsys.readouterr()
    rows = json.loads(written.out)
    sizes = {(row["corpus"], row["n_docs"]) for row in rows}
    assert sizes == {("pets", 40), ("woods", 25), ("pooled", 65), ("synthetic-150", 150)}
    engines = {row["engine"] for row in rows}
    assert {"evident-exact", "evident-two-step", "evident-u8", "scipy", "rank-bm25"} <= engines
    for row in rows:
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert row["bytes_per_doc"] > 0
        approximate = "u8" in row["engine"] or "two-step" in row["engine"]
        assert row["recall@10"] >= 0.5 if approximate else row["recall@10"] == 1.0, row
    assert "synthetic-150" in written.err  # its statistics, beside the real ones
    index = next((tmp_path / "work").glob("index-pooled-*")) / "manifest.json"
    before = index.stat().st_mtime_ns
    assert run([*flags, "--queries", "3"], tmp_path) == 0
    assert index.stat().st_mtime_ns == before  # kept, not built again
    assert "recall@10" in capsys.readouterr().out


def test_a_corpus_that_was_encoded_is_read_back(data, bert, tmp_path):
    settings = load_settings({"cache": str(tmp_path), "n_threads": 1}, {})
    first = encode_corpora(data[:1], str(bert), settings, tmp_path, Silent())[0]
    part = next((tmp_path / f"pets-{first.key}").glob("documents-*.npz"))
    before = part.stat().st_mtime_ns
    again = encode_corpora(data[:1], str(bert), settings, tmp_path, Silent())[0]
    assert part.stat().st_mtime_ns == before
    assert (first.documents.weights == again.documents.weights).all()
    part.write_bytes(b"not an archive")
    with pytest.raises(InvalidInput, match="damaged"):
        encode_corpora(data[:1], str(bert), settings, tmp_path, Silent())


def test_what_cannot_be_measured_says_so(data, bert, tmp_path, monkeypatch):
    flags = ["--data", str(data[0]), "--model", str(bert), "--work", str(tmp_path)]
    with pytest.raises(UsageError, match="unknown engine 'lucene'"):
        run([*flags, "--engines", "evident,lucene"], tmp_path)
    for shares in ("many", "0.1,2"):
        with pytest.raises(UsageError, match="--seismic-postings"):
            run([*flags, "--seismic-postings", shares], tmp_path)
    monkeypatch.setitem(sys.modules, "seismic", None)
    with pytest.raises(UsageError, match=r"evident-rag\[bench\]"):
        run([*flags, "--engines", "seismic"], tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "corpus.jsonl").write_text('{"_id": "1", "text": "cat"}\n')
    with pytest.raises(InvalidInput, match="no queries"):
        run(["--data", str(tmp_path / "empty"), *flags[2:], "--engines", "evident"], tmp_path)


def test_recall_counts_ties_and_short_lists():
    documents = SparseRows(
        ["a", "b"],
        np.array([0, 1, 2, 3, 4]),
        np.array([0, 0, 0, 1], np.uint32),
        np.array([3, 2, 2, 1], np.float32),
    )
    queries = SparseRows(
        ["a", "b"], np.array([0, 1, 2]), np.array([0, 1], np.uint32), np.ones(2, np.float32)
    )
    exact = exact_product(documents, queries, 2)
    assert exact.least.tolist() == [2.0, 1.0]
    assert exact.n_best.tolist() == [2, 1]
    assert exact.recall([np.array([0, 1]), np.array([3])]) == 1.0
    assert exact.recall([np.array([0, 2]), np.array([3, 0])]) == 1.0  # row 2 ties with row 1
    assert exact.recall([np.array([2, 2]), np.array([0])]) == 0.25


def test_synthetic_documents_have_the_statistics_of_real_ones(tmp_path, monkeypatch):
    real = [corpus_of(1, 900), corpus_of(2, 400)]
    made = synthetic_corpus.synthetic_corpus(real, 6000, 7, tmp_path, Silent())
    monkeypatch.setattr(synthetic_corpus, "CHUNK", 257)
    other = synthetic_corpus.synthetic_corpus(real, 6000, 7, tmp_path / "other", Silent())
    assert (made.documents.indptr == other.documents.indptr).all()
    assert (made.documents.term_ids == other.documents.term_ids).all()
    assert (made.documents.weights == other.documents.weights).all()
    for row in range(made.documents.n_rows):
        span = slice(*made.documents.indptr[row : row + 2])
        assert (np.diff(made.documents.term_ids[span].astype(int)) > 0).all()
    expected = corpus_statistics(
        SparseCorpus("both", "", _stacked(real), made.queries),
    )
    found = corpus_statistics(made)
    np.testing.assert_allclose(found.doc_terms, expected.doc_terms, rtol=0.08)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0.03)
    np.testing.assert_allclose(found.frequencies[:3], expected.frequencies[:3], rtol=0.1)
    assert found.postings_per_query == pytest.approx(expected.postings_per_query, rel=0.05)


def _stacked(corpora: list[SparseCorpus]) -> SparseRows:
    rows = [corpus.documents for corpus in corpora]
    return SparseRows(
        rows[0].vocabulary,
        np.concatenate([rows[0].indptr, rows[1].indptr[1:] + rows[0].indptr[-1]]),
        np.concatenate([each.term_ids for each in rows]),
        np.concatenate([each.weights for each in rows]),
    )


def test_impact_engines_against_the_product(tmp_path):
    corpus = corpus_of(3, 2000)
    exact = exact_product(corpus.documents, corpus.queries, 10)
    engines = [*own_engines(corpus, tmp_path, 10), scipy_engine(corpus, 10)]
    for engine in engines:
        least = 0.98 if engine.name == "evident-u8" else 1.0
        assert exact.recall(answers(engine, corpus.queries.n_rows)) >= least


def test_seismic_is_tuned_and_kept(tmp_path, capfd):
    pytest.importorskip("seismic")
    corpus = corpus_of(4, 2000)
    exact = exact_product(corpus.documents, corpus.queries, 10)
    first = seismic_engine.seismic_engines(corpus, exact, tmp_path, 10, [0.1], Silent())
    assert capfd.readouterr().out == ""
    assert [engine.name for engine in first] == ["seismic-0.97", "seismic-0.99"]
    for engine, target in zip(first, seismic_engine.TARGETS, strict=True):
        assert exact.recall(answers(engine, corpus.queries.n_rows)) >= target
    again = seismic_engine.seismic_engines(corpus, exact, tmp_path, 10, [0.1], Silent())
    assert again[0].build_s == first[0].build_s


@pytest.fixture
def tokens():
    random_ = random.Random(5)
    words = [f"w{n}" for n in range(80)]
    documents = [random_.choices(words, k=12) for _ in range(300)]
    return TokenCorpus("made", "1", documents, [random_.sample(words, 3) for _ in range(9)])


def test_our_bm25_finds_what_rank_bm25_finds(tokens, tmp_path):
    reference, exact = rank_bm25_engine(tokens, 10)
    for engine in (reference, own_bm25(tokens, tmp_path, 10)):
        assert exact.recall(answers(engine, 9)) == 1.0


@pytest.mark.slow  # it compiles its loops anew in each process
def test_bm25s_finds_what_rank_bm25_finds(tokens):
    pytest.importorskip("bm25s")
    _, exact = rank_bm25_engine(tokens, 10)
    assert exact.recall(answers(bm25s_engine(tokens, 10), 9)) == 1.0


def test_latency_is_a_query_s_share_of_its_batch():
    sizes: list[int] = []

    def search(numbers):
        sizes.append(len(numbers))
        return [np.array([number]) for number in numbers]

    engine = Engine("counted", search, 0.0, None, batch=4)
    assert [rows.tolist() for rows in answers(engine, 10)] == [[n] for n in range(10)]
    found = latencies([engine], 10, 2, Silent())[0]
    assert sizes == [4, 4, 2] * 3
    assert found.p99_ms >= found.p50_ms >= 0

"""Queries that are gathered and remembered get the vectors that they get alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from indexes.bounded_cache import BoundedCache
from indexes.manifest import RetrieverEntry
from indexes.representation import QueryVector
from rag import query_encoder
from rag.config import Settings
from rag.models.cache import is_ready
from rag.models.catalogue import get_entry
from rag.query_encoder import QueryEncoder, encoding_bytes
from rag.retrievers.retriever import EncodedQuery, parse_spec

QUESTIONS = [f"what is the {n}th letter of {word}?" for n in range(12) for word in ("alpha", "x")]


class Lengths:
    """Represents a text by its length; counts how it is asked."""

    entry = RetrieverEntry("lengths", "dense", ["dense"], model="none")

    def __init__(self, met=None):
        self.batches = []
        self.threads = set()
        self.lock = threading.Lock()
        self.met = met

    def encode_queries(self, queries):
        self.threads.add(threading.current_thread())
        if self.met is not None:
            self.met.wait()
        with self.lock:
            self.batches.append(list(queries))
        return [EncodedQuery(QueryVector(dense=np.float32([len(q)])), len(q) > 9) for q in queries]


def encoder_of(retriever, max_bytes=1_000_000, sizes=None, n_threads=1):
    sizes = [] if sizes is None else sizes
    cache = BoundedCache(max_bytes, encoding_bytes)
    return QueryEncoder(retriever, b"k", cache, sizes.append, n_threads=n_threads)


def test_a_query_is_encoded_once_and_told_the_same_again():
    retriever, sizes = Lengths(), []
    encoder = encoder_of(retriever, sizes=sizes)
    first, again = encoder.encode_queries(["penicillin"]), encoder.encode_queries(["penicillin"])
    assert first[0] is again[0]
    assert first[0].truncated
    assert retriever.batches == [["penicillin"]]
    assert sizes == [1]


def test_without_room_every_query_is_encoded():
    retriever = Lengths()
    encoder = encoder_of(retriever, max_bytes=0)
    for _ in range(2):
        assert encoder.encode_queries(["abc"])[0].vector.dense.tolist() == [3.0]
    assert len(retriever.batches) == 2


def test_many_threads_get_their_own():
    encoder = encoder_of(Lengths())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda q: encoder.encode_queries([q])[0], QUESTIONS * 5))
    assert [int(one.vector.dense[0]) for one in found] == [len(q) for q in QUESTIONS * 5]


@pytest.mark.parametrize("crowd", [True, False])
def test_a_query_alone_has_all_threads_unless_the_machine_is_crowded(monkeypatch, crowd):
    monkeypatch.setattr(query_encoder, "crowded", lambda _: crowd)
    retriever = Lengths()
    encoder = encoder_of(retriever, n_threads=2)
    encoder.encode_queries(["abc"])
    assert (retriever.threads == {threading.current_thread()}) is not crowd


def test_in_a_crowd_batches_are_encoded_side_by_side(monkeypatch):
    monkeypatch.setattr(query_encoder, "crowded", lambda _: False)
    retriever = Lengths(met=threading.Barrier(2, timeout=20))  # two at once, or this never passes
    encoder = encoder_of(retriever, n_threads=3)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda q: encoder.encode_queries([q])[0], ["a", "bc"]))
    assert [int(one.vector.dense[0]) for one in found] == [1, 2]


def test_who_computes_alone_is_asked_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(query_encoder, "crowded", lambda _: True)
    retriever = Lengths()
    retriever.computes_alone = True
    encoder_of(retriever, n_threads=2).encode_queries(["abc"])
    assert retriever.threads == {threading.current_thread()}


def minilm(precision):
    settings = Settings(n_threads=1, encode_precision=precision)
    if not is_ready(get_entry("all-minilm-l6-v2"), settings.cache):
        pytest.skip("absent: all-minilm-l6-v2; `rag models pull all-minilm-l6-v2` fetches it")
    from indexes.analyzer import Analyzer
    from rag.progress import Silent
    from rag.retrievers.opening import entry_of, open_retriever

    entry = entry_of(parse_spec("minilm"), settings, Silent())
    return open_retriever(entry, Analyzer(), settings)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "off"), [("float32", 2e-6), ("int16", 0)])
def test_a_real_models_batches_equal_single_queries(precision, off):
    retriever = minilm(precision)
    alone = np.stack([retriever.encode_queries([q])[0].vector.dense for q in QUESTIONS])
    sizes = []
    encoder = encoder_of(retriever, sizes=sizes)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda q: encoder.encode_queries([q])[0].vector.dense, QUESTIONS))
    # In fixed point, where that is computed, a batch changes nothing at all.
    np.testing.assert_allclose(
        np.stack(found), alone, atol=off if retriever.computes_alone else 2e-6
    )
    assert sum(sizes) == len(QUESTIONS)
    assert max(sizes) > 1


@pytest.mark.slow
def test_a_real_models_vectors_in_fixed_point_are_those_in_float32():
    vectors = {}
    for precision in ("float32", "int16"):
        retriever = minilm(precision)
        queries = [one.vector.dense for one in retriever.encode_queries(QUESTIONS)]
        vectors[precision] = np.concatenate(
            [
                queries,
                retriever.encode_passages([" ".join(QUESTIONS) * 9, "x"], lambda _: None).dense,
            ]
        )
    full, fixed = vectors["float32"], vectors["int16"]
    np.testing.assert_allclose(fixed, full, atol=3e-4)
    np.testing.assert_allclose(fixed @ fixed.T, full @ full.T, atol=6e-4)

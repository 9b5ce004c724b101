"""Retrievers that share layers read together what each reads alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_checkpoints import WORDS
from toy_duplex import our_folder, sentence_encoder

from indexes.representation import PassageVectors
from rag.config import Settings
from rag.progress import Silent
from rag.retrievers.one_pass import encode_together, sharing
from rag.retrievers.opening import entry_of, open_retriever
from rag.retrievers.retriever import Retriever, parse_specs

texts = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), min_size=1, max_size=9
)


@pytest.fixture(scope="module")
def retrievers(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Retriever]:
    """A dense one on the base, and three duplexes that branch off after 1, 1 and 2 layers."""
    tmp_path = tmp_path_factory.mktemp("shared")
    base = sentence_encoder(bert, tmp_path / "base")
    cache = tmp_path / "cache"
    for name, n_layers in (("one", 1), ("two", 2)):
        our_folder(base, tmp_path / name, cache, n_shared_layers=n_layers)
    specs = parse_specs(
        f"dense={base}:kind=dense,one={tmp_path / 'one'},"
        f"half={tmp_path / 'one'}:part=lexical,two={tmp_path / 'two'},"
        f"short={tmp_path / 'one'}:max_tokens=8,whole={bert}:kind=splade"
    )
    chosen = Settings(cache=cache, encode_batch_tokens=128)
    return {
        spec.name: open_retriever(entry_of(spec, chosen, Silent()), None, chosen) for spec in specs
    }


def same(found: PassageVectors, alone: PassageVectors) -> None:
    if alone.dense is None:
        assert found.dense is None
    else:
        np.testing.assert_allclose(found.dense, alone.dense, atol=1e-5)
    assert (found.sparse is None) == (alone.sparse is None)
    if alone.sparse is not None and found.sparse is not None:
        np.testing.assert_array_equal(found.sparse.indptr, alone.sparse.indptr)
        np.testing.assert_array_equal(found.sparse.term_ids, alone.sparse.term_ids)
        np.testing.assert_allclose(found.sparse.weights, alone.sparse.weights, atol=1e-5)


def test_who_reads_alike_reads_together(retrievers: dict[str, Retriever]) -> None:
    (group,) = sharing(list(retrievers.values()))
    assert [one.entry.name for one in group] == ["dense", "one", "half", "two"]


def test_bfloat16_is_close_and_shared_too(
    retrievers: dict[str, Retriever], tmp_path: Path, bert: Path
) -> None:
    passages = ["cat dog fish", "river stone tree bird", "oak"]
    base = sentence_encoder(bert, tmp_path / "base")
    ours = our_folder(base, tmp_path / "ours", tmp_path / "cache")
    found = {}
    for precision in ("float32", "bfloat16"):
        chosen = Settings(cache=tmp_path / "cache", encode_precision=precision)
        specs = parse_specs(f"m={base}:kind=dense,d={ours}")
        opened = [open_retriever(entry_of(spec, chosen, Silent()), None, chosen) for spec in specs]
        (group,) = sharing(opened)
        found[precision] = encode_together(
            group, passages, {"m": lambda _: None, "d": lambda _: None}
        )
        alone = opened[0].encode_passages(passages, lambda _: None).dense
        np.testing.assert_allclose(found[precision]["m"].dense, alone, atol=2e-2)
    full, half = found["float32"], found["bfloat16"]
    for name in ("m", "d"):
        cosine = (full[name].dense * half[name].dense).sum(1)
        assert (cosine > 0.999).all()
        assert not np.array_equal(full[name].dense, half[name].dense)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(passages=texts)
def test_one_pass_gives_what_each_gives_alone(
    retrievers: dict[str, Retriever], passages: list[str]
) -> None:
    (group,) = sharing(list(retrievers.values()))
    done = {one.entry.name: 0 for one in group}

    def told(name: str):
        def count(n: int) -> None:
            done[name] += n

        return count

    found = encode_together(group, passages, {name: told(name) for name in done})
    assert set(done.values()) == {len(passages)}
    for one in group:
        alone = retrievers[one.entry.name].encode_passages(passages, lambda _: None)
        same(found[one.entry.name], alone)


def test_a_plain_encoder_is_read_by_our_own_layers_to_the_same_vectors(
    bert: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = sentence_encoder(bert, tmp_path / "base")
    settings = Settings(cache=tmp_path / "cache", encode_batch_tokens=64)
    (spec,) = parse_specs(f"m={folder}:kind=dense")
    retriever = open_retriever(entry_of(spec, settings, Silent()), None, settings)
    passages = ["cat dog fish", "", "river stone tree bird " * 30, "oak"]
    found = retriever.encode_passages(passages, lambda _: None).dense
    theirs = SentenceTransformer(str(folder), device="cpu").encode(passages)
    np.testing.assert_allclose(found, theirs, atol=1e-6)
    queries = [one.vector.dense for one in retriever.encode_queries(passages)]
    np.testing.assert_allclose(queries, theirs, atol=1e-6)

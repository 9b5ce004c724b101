"""Inverting rows and reverting postings are each other's inverse; lookups equal a dictionary."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes import postings as postings_module
from indexes.postings import Postings, concatenate, revert, write_postings
from indexes.representation import SparseRows

terms = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
passages = st.lists(st.dictionaries(terms, st.integers(1, 9), max_size=6), min_size=1, max_size=8)


def rows_of(passages: list[dict[str, int]]) -> SparseRows:
    vocabulary = [*dict.fromkeys(t for p in passages for t in p), "never used"]
    number = {term: place for place, term in enumerate(vocabulary)}
    return SparseRows(
        vocabulary,
        np.cumsum([0, *map(len, passages)]).astype(np.int64),
        np.array([number[t] for p in passages for t in p], dtype=np.uint32),
        np.array([w for p in passages for w in p.values()], dtype=np.uint32),
        np.array([sum(p.values()) for p in passages], dtype=np.uint32),
    )


def dicts_of(rows: SparseRows) -> list[dict[str, int]]:
    return [
        {
            rows.vocabulary[t]: int(w)
            for t, w in zip(rows.term_ids[a:b], rows.weights[a:b], strict=True)
        }
        for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    ]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(passages, st.data())
def test_round_trip_and_lookup(passages, data):
    with tempfile.TemporaryDirectory() as scratch:
        write_postings(Path(scratch), "x", rows_of(passages))
        postings = Postings(Path(scratch), "x")
        assert list(postings.vocabulary()) == sorted({t for p in passages for t in p})
        for term in [*postings.vocabulary(), "absent", data.draw(terms)]:
            stretch = postings.find(term)
            found = dict(
                zip(
                    postings.rows[stretch].tolist(), postings.weights[stretch].tolist(), strict=True
                )
            )
            assert found == {n: p[term] for n, p in enumerate(passages) if term in p}
        kept = data.draw(st.lists(st.booleans(), min_size=len(passages), max_size=len(passages)))
        keep = np.where(kept, np.cumsum(kept) - 1, -1)
        reverted = revert(postings, keep, sum(kept))
        assert dicts_of(reverted) == [p for p, k in zip(passages, kept, strict=True) if k]


def test_remembered_terms_do_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(postings_module, "REMEMBERED", 3)
    write_postings(tmp_path, "x", rows_of([{"a": 1, "b": 2}, {"c": 3, "d": 4}]))
    postings = Postings(tmp_path, "x")
    for asked in (["a", "b"], ["b", "c", "z"], ["d", "a"], ["z", "z", "b"]):
        expected = [list("abcd").index(term) if term in "abcd" else -1 for term in asked]
        assert postings.numbers(asked).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(passages, min_size=1, max_size=3))
def test_concatenation_is_one_after_another(parts):
    joined = concatenate([rows_of(part) for part in parts])
    assert dicts_of(joined) == [p for part in parts for p in part]
    assert len(set(joined.vocabulary)) == len(joined.vocabulary)

"""Which of an index's retrievers a search uses, and how much each counts."""

from __future__ import annotations

import pytest

from indexes.errors import UsageError
from indexes.manifest import Manifest, RetrieverEntry
from rag.ranking import choices_of
from rag.search import RetrieverChoice


def manifest(*kinds: str) -> Manifest:
    entries = [RetrieverEntry(f"my-{kind}", kind, ["dense"]) for kind in kinds]
    return Manifest("papers", 1, 1, "", "", {}, "", {}, entries, [], 0, 0, "")


def test_all_of_the_index_each_as_its_kind_counts() -> None:
    assert choices_of(manifest("bm25", "gear", "dense"), []) == [
        RetrieverChoice("my-bm25"),
        RetrieverChoice("my-gear", weight=0.4),
        RetrieverChoice("my-dense"),
    ]


def test_who_names_them_weighs_them() -> None:
    wanted = [RetrieverChoice("my-gear"), RetrieverChoice("my-bm25", weight=2.0)]
    assert choices_of(manifest("bm25", "gear"), wanted) == wanted


def test_none_is_named_twice() -> None:
    with pytest.raises(UsageError, match="twice"):
        choices_of(manifest("bm25"), [RetrieverChoice("bm25"), RetrieverChoice("bm25")])

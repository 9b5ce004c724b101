"""The reject file."""

from __future__ import annotations

import json
from pathlib import Path

from indexes.rejects import Rejects


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "rejects.jsonl"
    with Rejects(path) as rejects:
        assert not path.exists()
        rejects.add("a.jsonl", 3, "d1", "duplicate id")
        assert rows(path) == [
            {"source": "a.jsonl", "line": 3, "id": "d1", "reason": "duplicate id"}
        ]
        rejects.add("b.pdf", None, None, "the PDF is encrypted")
    assert rejects.count == 2
    assert rows(path)[1] == {
        "source": "b.pdf",
        "line": None,
        "id": None,
        "reason": "the PDF is encrypted",
    }


def test_without_rejects_there_is_no_file_not_even_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    path.write_text("of an earlier run\n")
    with Rejects(path) as rejects:
        assert rejects.count == 0
    assert not path.exists()


def test_any_string_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with Rejects(path) as rejects:
        rejects.add("a\udcff", 1, "\ud800\0\n" + "x" * 1000, "tab\there\n")
    (row,) = rows(path)
    assert row["source"] == "a\\udcff"
    assert str(row["id"]).startswith("\\ud800\0\n")
    assert len(str(row["id"])) < 600
    assert row["reason"] == "tab\there\n"


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    rejects = Rejects(tmp_path / "rejects.jsonl")
    rejects.add("a", 1, None, "bad")
    rejects.close()
    rejects.close()
    assert len(rows(rejects.path)) == 1

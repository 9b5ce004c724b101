"""Parquet."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexes.document import Document

ReadAll = Callable[..., Any]


def test_rows_become_documents(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.parquet"
    rows = [
        {
            "id": n,
            "text": f"text {n}",
            "title": None if n % 2 else f"title {n}",
            "day": datetime.date(2020, 1, 1 + n % 28),
            "tags": ["a", "b"],
            "metadata": {"lang": "en"},
        }
        for n in range(700)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=300)
    outcome = read_all(path)
    assert len(outcome.reads) == 700
    assert outcome.documents[1] == Document(
        "1", "text 1", "", {"day": "2020-01-02", "tags": ["a", "b"], "lang": "en"}
    )
    assert [read.line for read in outcome.reads] == list(range(1, 701))
    assert outcome.n_bytes == path.stat().st_size


def test_bad_rows_are_rejected(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.parquet"
    texts = pa.array([b"good", b"\xff\xfe", b"", None, b"good"], pa.binary())
    ids = pa.array(["a", "b", "c", "d", None])
    table = pa.table({"id": ids, "text": pa.Array.from_buffers(pa.string(), 5, texts.buffers())})
    pq.write_table(table, path)
    outcome = read_all(path)
    assert outcome.ids == ["a"]
    assert outcome.flaws == [
        (2, None, "the row is not valid UTF-8"),
        (3, "c", "the document is empty: neither title nor text"),
        (4, "d", "the document is empty: neither title nor text"),
        (5, None, "the id is missing (field id or _id)"),
    ]


def test_a_damaged_file_is_rejected(tmp_path: Path, read_all: ReadAll) -> None:
    no_parquet, cut_off, middle = (tmp_path / f"{name}.parquet" for name in "abc")
    table = pa.table({"id": [str(n) for n in range(2000)], "text": ["some text"] * 2000})
    pq.write_table(table, middle, row_group_size=500, compression="none", use_dictionary=False)
    content = bytearray(middle.read_bytes())
    no_parquet.write_bytes(b"PAR1 not really")
    cut_off.write_bytes(content[: len(content) // 2])
    at = pq.ParquetFile(middle).metadata.row_group(2).column(0).data_page_offset
    content[at : at + 64] = b"\xff" * 64
    middle.write_bytes(content)
    outcome = read_all(no_parquet, cut_off, middle)
    assert len(outcome.ids) >= 768
    assert len(outcome.rejects) == 3
    assert all(row["reason"].startswith("the file is damaged") for row in outcome.rejects)
    assert [row["line"] for row in outcome.rejects][:2] == [1, 1]
    assert outcome.rejects[2]["line"] == len(outcome.ids) + 1

"""CSV and TSV."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexes.document import Document
from indexes.readers import read_documents
from indexes.rejects import Rejects

ReadAll = Callable[..., Any]


def test_csv_with_quotes_and_line_breaks(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,title,text,year\r\na,T,"one, ""two""\r\nthree",1999\r\n\r\nb,,plain,\r\n'
    )
    outcome = read_all(path)
    assert outcome.documents == [
        Document("a", 'one, "two"\r\nthree', "T", {"year": "1999"}),
        Document("b", "plain", "", {"year": ""}),
    ]
    assert [read.line for read in outcome.reads] == [2, 5]


def test_tsv_takes_quotes_as_they_are(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.tsv.gz"
    path.write_bytes(gzip.compress('_id\ttext\n1\t"Heroes" is\n2\t5" disk\n3\té, ü\n'.encode()))
    texts = [document.text for document in read_all(path).documents]
    assert texts == ['"Heroes" is', '5" disk', "é, ü"]


def test_bad_rows_are_rejected_and_reading_goes_on(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.csv"
    path.write_bytes(
        b"id,text\n"
        b"1,good\n"
        b"2,one,too many\n"
        b"3\n"
        b"4,\xff\xfe\n"
        b'5,"a"b\n'
        b",no id\n"
        b"7,\n"
        b'8,"two\nlines \xff"\n'
        b"9,good\n"
    )
    outcome = read_all(path)
    assert outcome.ids == ["1", "9"]
    lines_and_reasons = [(line, reason) for line, _, reason in outcome.flaws]
    assert lines_and_reasons == [
        (3, "the row has 3 cells, the header 2"),
        (4, "the row has 1 cells, the header 2"),
        (5, "the row is not valid UTF-8"),
        (6, "the row cannot be parsed: ',' expected after '\"'"),
        (7, "the id is empty"),
        (8, "the document is empty: neither title nor text"),
        (9, "the row is not valid UTF-8"),
    ]


def test_an_open_quote_at_the_end(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.csv"
    path.write_text('id,text\n1,good\n2,"never closed\n3,lost\n')
    outcome = read_all(path)
    assert outcome.ids == ["1"]
    assert outcome.flaws == [(3, None, "the row cannot be parsed: unexpected end of data")]


def test_a_header_without_id(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.csv"
    path.write_text("name,text\nx,one\ny,two\n")
    outcome = read_all(path)
    assert [line for line, _, _ in outcome.flaws] == [2, 3]
    assert outcome.reads == []
    assert read_all(path, id_field="name").ids == ["x", "y"]


def test_empty_and_header_only(tmp_path: Path, read_all: ReadAll) -> None:
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.tsv").write_text("id\ttext\n")
    assert read_all(tmp_path / "a.csv", tmp_path / "b.tsv").reads == []


def test_a_cell_of_ten_megabytes(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.csv"
    path.write_text("id,text\nbig," + "x" * 10_000_000 + "\n")
    (document,) = read_all(path).documents
    assert len(document.text) == 10_000_000


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, st.text('a,"\n é;', min_size=1)), max_size=6))
def test_what_csv_writes_is_read_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    rows = [(document_id, text + "x") for document_id, text in rows]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("id", "text"), *rows])
    path = tmp_path / "docs.csv"
    path.write_bytes(buffer.getvalue().encode())
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        documents = [read.document for read in read_documents([path], rejects)]
    assert [(document.id, document.text) for document in documents] == rows
    assert rejects.count == 0

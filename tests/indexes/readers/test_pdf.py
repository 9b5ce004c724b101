"""PDF files, broken ones included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from indexes.errors import MalformedInput
from indexes.readers.pdf import PdfParser

ReadAll = Callable[..., Any]


def pdf_writer(*pages: str, title: str = "") -> PdfWriter:
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode("latin-1"))
        page[NameObject("/Contents")] = stream
    if title:
        writer.add_metadata({"/Title": title})
    return writer


def test_text_and_title(tmp_path: Path, read_all: ReadAll) -> None:
    pdf_writer("First page.", "Second page.", title="Its title").write(tmp_path / "a.pdf")
    (tmp_path / "sub").mkdir()
    pdf_writer("Untitled.").write(tmp_path / "sub" / "b.PDF")
    outcome = read_all(tmp_path)
    assert [(d.id, d.title, d.text) for d in outcome.documents] == [
        ("a.pdf", "Its title", "First page.\n\nSecond page."),
        ("sub/b.PDF", "b", "Untitled."),
    ]


def test_bad_files_are_rejected_and_reading_goes_on(tmp_path: Path, read_all: ReadAll) -> None:
    secret = pdf_writer("Secret.")
    secret.encrypt("password", algorithm="RC4-128")
    secret.write(tmp_path / "1 encrypted.pdf")
    (tmp_path / "2 junk.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 20)
    (tmp_path / "3 empty.pdf").touch()
    pdf_writer("").write(tmp_path / "4 scanned.pdf")
    pdf_writer("Good.").write(tmp_path / "5 good.pdf")
    outcome = read_all(tmp_path)
    assert outcome.ids == ["5 good.pdf"]
    reasons = {row["id"]: row["reason"] for row in outcome.rejects}
    assert reasons["1 encrypted.pdf"] == "the PDF is encrypted"
    assert reasons["2 junk.pdf"].startswith("the PDF is broken: ")
    assert reasons["3 empty.pdf"].startswith("the PDF is broken: ")
    assert reasons["4 scanned.pdf"] == "no text was found in the file"


def test_a_parser_out_of_time_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    pdf_writer("Hello.").write(path)
    with PdfParser(timeout_s=0.0) as hurried:
        for _ in range(2):
            with pytest.raises(MalformedInput, match="given up after 0 s"):
                hurried.parse(path)
    with PdfParser(timeout_s=60.0) as parser:
        assert parser.parse(path) == ("", "Hello.")


def test_a_parser_that_dies_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    pdf_writer("Hello.").write(path)
    with PdfParser(timeout_s=60.0) as parser:
        assert parser.parse(path) == ("", "Hello.")
        assert parser._process is not None
        parser._process.kill()
        parser._process.wait()
        with pytest.raises(MalformedInput, match="brought its parser down"):
            parser.parse(path)
        assert parser.parse(path) == ("", "Hello.")


def test_the_worker_imports_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pdf_writer("Hello.").write(tmp_path / "a.pdf")
    (tmp_path / "pypdf.py").write_text("raise SystemExit('run from the current folder')")
    monkeypatch.chdir(tmp_path)
    with PdfParser(timeout_s=60.0) as parser:
        assert parser.parse(Path("a.pdf")) == ("", "Hello.")

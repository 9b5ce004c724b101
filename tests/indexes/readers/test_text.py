"""Pages: plain text, Markdown, HTML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexes.document import Document

ReadAll = Callable[..., Any]


def test_titles(tmp_path: Path, read_all: ReadAll) -> None:
    (tmp_path / "plain.txt").write_text("Just words.\n")
    headed = "intro\n\n## The *first* heading ##\n\n# Second\n"
    (tmp_path / "headed.md").write_text(headed)
    (tmp_path / "bare.markdown").write_text("no heading, #hashtag only\n")
    (tmp_path / "page.html").write_text("<title>A &amp; B</title><p>Hello")
    outcome = read_all(tmp_path)
    assert outcome.documents == [
        Document("bare.markdown", "no heading, #hashtag only\n", "bare"),
        Document("headed.md", headed, "The *first* heading"),
        Document("page.html", "Hello", "A & B"),
        Document("plain.txt", "Just words.\n", "plain"),
    ]  # fmt: skip
    assert {read.line for read in outcome.reads} == {None}


def test_encodings(tmp_path: Path, read_all: ReadAll) -> None:
    contents = {
        "a.txt": b"\xef\xbb\xbfcaf\xc3\xa9",
        "b.txt": "café".encode("utf-16"),
        "c.html": b'<meta charset="windows-1252"><p>caf\xe9',
        "d.html": b"<p>caf\xc3\xa9",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert [document.text for document in read_all(tmp_path).documents] == ["café"] * 4


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("latin.txt", b"caf\xe9", "the file is not valid UTF-8"),
        ("odd.html", b"<meta charset=xyz><p>x", "the file declares an unknown encoding, 'xyz'"),
        ("hex.html", b"<meta charset=hex><p>x", "the file declares an unknown encoding, 'hex'"),
        ("empty.md", b"", "no text was found in the file"),
        ("blank.txt", b" \n\t", "no text was found in the file"),
        ("script.html", b"<script>alert(1)</script>", "no text was found in the file"),
        ("nul.txt", b"a\0b", "the text contains a NUL character"),
        ("long.txt", b"x" * 1001, "the file is longer than 1000 bytes"),
    ],
)  # fmt: skip
def test_bad_files_are_rejected(
    name: str, content: bytes, reason: str, tmp_path: Path, read_all: ReadAll
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "zz.txt").write_text("fine")
    outcome = read_all(tmp_path, max_document_bytes=1000)
    assert outcome.ids == ["zz.txt"]
    assert outcome.flaws == [(None, name, reason)]


def test_a_text_file_of_ten_megabytes(tmp_path: Path, read_all: ReadAll) -> None:
    (tmp_path / "big.txt").write_text("x" * 10_000_000)
    (document,) = read_all(tmp_path / "big.txt").documents
    assert len(document.text) == 10_000_000

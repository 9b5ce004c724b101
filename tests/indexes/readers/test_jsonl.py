"""JSON lines: fields, bad lines, damage, bounds."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexes.document import Document

ReadAll = Callable[..., Any]


def test_fields_and_metadata(tmp_path: Path, read_all: ReadAll) -> None:
    rows = [
        {"id": "a", "text": "one", "title": "t", "year": 1999},
        {"_id": "b", "contents": "two", "metadata": {"url": "x", "year": 1}, "year": 2},
        {"id": 7, "body": "three", "title": None, "metadata": "plain"},
        {"id": "c", "title": "only a title"},
        {"id": "d", "_id": "kept", "text": "four", "contents": "kept too"},
    ]
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    outcome = read_all(path)
    assert outcome.documents == [
        Document("a", "one", "t", {"year": 1999}),
        Document("b", "two", "", {"url": "x", "year": 2}),
        Document("7", "three", "", {"metadata": "plain"}),
        Document("c", "", "only a title", {}),
        Document("d", "four", "", {"_id": "kept", "contents": "kept too"}),
    ]
    assert [read.line for read in outcome.reads] == [1, 2, 3, 4, 5]
    assert {read.source for read in outcome.reads} == {str(path)}
    assert outcome.rejects == []


def test_chosen_fields(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "no", "pmid": 12, "abstract": "words", "name": "n"}\n')
    outcome = read_all(path, id_field="pmid", text_field="abstract", title_field="name")
    assert outcome.documents == [Document("12", "words", "n", {"id": "no"})]


BAD_LINES = [
    (b'{"id": "x", "text": "cut off', None, "the line is not valid JSON"),
    (b"not json at all", None, "the line is not valid JSON"),
    (b'{"id": "x", "text": "\xff\xfe"}', None, "the line is not valid UTF-8"),
    (b'{"id": "x", "text": "\\ud800"}', None, "the line is not valid JSON"),
    (b"[" * 100_000, None, "the line is nested too deeply"),
    (b'["a", "list"]', None, "the record is not an object"),
    (b"null", None, "the record is not an object"),
    (b'{"text": "no id"}', None, "the id is missing (field id or _id)"),
    (b'{"id": null, "text": "t"}', None, "the id is missing (field id or _id)"),
    (b'{"id": true, "text": "t"}', None, "the id is no string but true or false"),
    (b'{"id": 1.5, "text": "t"}', None, "the id is no string but a number"),
    (b'{"id": {}, "text": "t"}', None, "the id is no string but an object"),
    (b'{"id": "", "text": "t"}', "", "the id is empty"),
    (b'{"id": "a\\u0000b", "text": "t"}', "a\0b", "the id contains a control character"),
    (b'{"id": "a\\nb", "text": "t"}', "a\nb", "the id contains a control character"),
    (b'{"id": "' + b"i" * 513 + b'", "text": "t"}', "i" * 512, "the id has over 512 characters"),
    (b'{"id": "x", "text": 5}', "x", "the field text is no string but a number"),
    (b'{"id": "x", "text": ["a"]}', "x", "the field text is no string but a list"),
    (b'{"id": "x", "text": "t", "title": {}}', "x", "the field title is no string but an object"),
    (b'{"id": "x", "text": "nul \\u0000"}', "x", "the text contains a NUL character"),
    (b'{"id": "x", "text": " \\n"}', "x", "the document is empty: neither title nor text"),
    (b'{"id": "x"}', "x", "the document is empty: neither title nor text"),
]


@pytest.mark.parametrize(("line", "document_id", "reason"), BAD_LINES)
def test_a_bad_line_in_the_middle(
    line: bytes, document_id: str | None, reason: str, tmp_path: Path, read_all: ReadAll
) -> None:
    path = tmp_path / "docs.jsonl"
    good = b'{"id": "%d", "text": "t"}'
    path.write_bytes(b"\n".join([good % 1, line, good % 3]) + b"\n")
    outcome = read_all(path)
    assert [(read.document.id, read.line) for read in outcome.reads] == [("1", 1), ("3", 3)]
    ((number, shown_id, shown),) = outcome.flaws
    assert (number, shown_id) == (2, document_id)
    assert shown.startswith(reason)
    assert outcome.rejects[0]["source"] == str(path)


@pytest.mark.parametrize(
    "document_id", ["../../etc/passwd", "/abs", "C:\\x", "🙂", "שלום", "a b", "%2e%2e/", "CON"]
)
def test_an_id_is_an_opaque_key(document_id: str, tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text(json.dumps({"id": document_id, "text": "t"}))
    before = sorted(tmp_path.rglob("*"))
    assert read_all(path).ids == [document_id]
    assert sorted(tmp_path.rglob("*")) == before


def test_text_of_any_script_comes_through_unchanged(tmp_path: Path, read_all: ReadAll) -> None:
    texts = ["👩🏽‍🚀 emoji", "مرحبا ‏rtl‎", "日本語", "e\u0301 decomposed", "\u2028 line\r\nend"]
    path = tmp_path / "docs.jsonl"
    rows = [json.dumps({"id": str(n), "text": t}, ensure_ascii=False) for n, t in enumerate(texts)]
    path.write_bytes("\n".join(rows).encode())
    assert [document.text for document in read_all(path).documents] == texts


def test_blank_lines_and_a_byte_order_mark_are_no_flaw(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.ndjson"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": "a", "text": "t"}\r\n\r\n  \n{"id": "b", "text": "t"}\r\n'
    )
    outcome = read_all(path)
    assert [(read.document.id, read.line) for read in outcome.reads] == [("a", 1), ("b", 4)]
    assert outcome.rejects == []


def test_an_empty_corpus_has_no_document(tmp_path: Path, read_all: ReadAll) -> None:
    plain, packed = tmp_path / "corpus.jsonl", tmp_path / "other.jsonl.gz"
    plain.touch()
    packed.write_bytes(gzip.compress(b""))
    outcome = read_all(plain, packed)
    assert outcome.reads == outcome.rejects == []


def test_a_document_of_ten_megabytes(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "docs.jsonl.gz"
    text = "lorem ipsum " * 900_000
    path.write_bytes(gzip.compress(json.dumps({"id": "big", "text": text}).encode(), 1))
    assert read_all(path).documents == [Document("big", text)]


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_over_the_limit_is_skipped(packed: bool, tmp_path: Path, read_all: ReadAll) -> None:
    good = b'{"id": "%d", "text": "t"}\n'
    content = good % 1 + b"x" * 3_000_000 + b"\n" + good % 3 + b"y" * 101
    path = tmp_path / ("docs.jsonl.gz" if packed else "docs.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    outcome = read_all(path, max_document_bytes=100)
    assert [(read.document.id, read.line) for read in outcome.reads] == [("1", 1), ("3", 3)]
    reason = "the line is longer than 100 bytes"
    assert outcome.flaws == [(2, None, reason), (4, None, reason)]


@pytest.mark.slow
def test_a_gzip_bomb_is_never_held(tmp_path: Path, read_all: ReadAll) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(b" " * (1 << 20))
        file.write(b'\n{"id": "after", "text": "t"}\n')
    tracemalloc.start()
    outcome = read_all(path, max_document_bytes=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert outcome.ids == ["after"]
    assert peak < 16 << 20


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut off", "flipped", "not gzip"])
def test_damaged_compression_ends_the_file_only(
    damage: str, tmp_path: Path, read_all: ReadAll
) -> None:
    rows = b"".join(b'{"id": "%d", "text": "t%d"}\n' % (n, n * n) for n in range(50_000))
    content = bytearray(gzip.compress(rows))
    if damage == "cut off":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    else:
        content = bytearray(rows)
    broken, good = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"
    broken.write_bytes(content)
    good.write_text('{"id": "last", "text": "t"}')
    outcome = read_all(broken, good)
    assert outcome.ids[-1] == "last"
    whole = outcome.ids[:-1]
    if damage == "cut off":
        assert whole == [str(n) for n in range(len(whole))]
    assert bool(whole) == (damage != "not gzip")
    *_, (line, _, reason) = outcome.flaws
    assert line is not None
    assert line > len(whole)
    assert reason.startswith("the file is damaged from here on: ")
    assert outcome.n_bytes == broken.stat().st_size + good.stat().st_size


def test_reading_is_lazy(tmp_path: Path) -> None:
    from indexes.readers import read_documents
    from indexes.rejects import Rejects

    path = tmp_path / "docs.jsonl"
    rows = ("".join(f'{{"id": "{n}", "text": "{"x" * 1000}"}}\n') for n in range(20_000))
    path.write_text("".join(rows))
    reported: list[int] = []
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        reads = read_documents([path], rejects, on_bytes=reported.append)
        assert next(reads).document.id == "0"
        assert sum(reported) == 0
        for _ in range(9_999):
            next(reads)
        # An honest bar: half of the documents, about half of the bytes.
        assert sum(reported) / path.stat().st_size == pytest.approx(0.5, abs=0.02)
        reads.close()

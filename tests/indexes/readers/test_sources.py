"""Which files inputs name, in which order, and the fingerprint over them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexes.errors import UsageError
from indexes.readers import inputs_fingerprint, read_documents, total_bytes
from indexes.rejects import Rejects

ReadAll = Callable[..., Any]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "b" / "c" / "deep.txt").write_text("deep")
    (folder / "b" / "z.MD").write_text("# Z\n")
    (folder / "a.txt").write_text("a")
    (folder / "rows.jsonl").write_text('{"id": "r", "text": "row"}\n')
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("no")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.txt").write_text("no")
    return folder


def test_a_folder_is_read_in_sorted_order(corpus: Path, read_all: ReadAll) -> None:
    outcome = read_all(corpus)
    assert outcome.ids == ["a.txt", "b/c/deep.txt", "b/z.MD", "r"]
    assert outcome.rejects == []
    assert outcome.n_bytes == total_bytes([corpus]) == sum([1, 4, 4, 27])


def test_paths_keep_their_order_and_a_file_named_twice_counts_once(
    corpus: Path, read_all: ReadAll
) -> None:
    again = corpus / "b" / ".." / "a.txt"
    outcome = read_all(corpus / "rows.jsonl", corpus / "a.txt", again, corpus)
    assert outcome.ids == ["r", "a.txt", "b/c/deep.txt", "b/z.MD"]


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_of_a_beir_folder_only_the_corpus_is_read(
    name: str, tmp_path: Path, read_all: ReadAll
) -> None:
    import gzip

    row = b'{"_id": "d1", "title": "T", "text": "x", "metadata": {"url": "u"}}\n'
    (tmp_path / "beir").mkdir()
    (tmp_path / "beir" / name).write_bytes(gzip.compress(row) if name.endswith("gz") else row)
    (tmp_path / "beir" / "queries.jsonl").write_text('{"_id": "q1", "text": "query"}\n')
    (document,) = read_all(tmp_path / "beir").documents
    assert (document.id, document.metadata) == ("d1", {"url": "u"})


def test_wrong_paths_are_refused_at_once(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "no files").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        with pytest.raises(UsageError, match="there is no file or folder"):
            read_documents([corpus, tmp_path / "absent.jsonl"], rejects)
        with pytest.raises(UsageError, match=r"picture\.png.* ending in .*\.jsonl.*\.pdf"):
            read_documents([corpus / "picture.png"], rejects)
        with pytest.raises(UsageError, match="holds no file ending in"):
            read_documents([tmp_path / "no files"], rejects)
        with pytest.raises(UsageError, match="cannot read"):
            read_documents([tmp_path / "pipe.jsonl"], rejects)


def test_links_do_not_lead_out_of_the_folder(
    corpus: Path, tmp_path: Path, read_all: ReadAll
) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.txt").write_text("secret")
    (corpus / "leak.txt").symlink_to(tmp_path / "outside.txt")
    (corpus / "link").symlink_to(tmp_path / "more")
    (corpus / "loop").symlink_to(corpus)
    (corpus / "same.txt").symlink_to(corpus / "a.txt")
    (corpus / "dangling.txt").symlink_to(corpus / "gone.txt")
    outcome = read_all(corpus)
    assert outcome.ids == ["a.txt", "b/c/deep.txt", "b/z.MD", "r"]
    reasons = {Path(row["source"]).name: row["reason"] for row in outcome.rejects}
    assert reasons == {
        "leak.txt": "the symbolic link leads out of the folder",
        "link": "a link to a folder is not followed",
        "loop": "a link to a folder is not followed",
        "dangling.txt": "the symbolic link leads nowhere",
    }


def test_a_file_name_that_is_no_id(tmp_path: Path, read_all: ReadAll) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "tab\there.txt").write_text("t")
    (folder / os.fsdecode(b"\xff.txt")).write_text("t")
    outcome = read_all(folder)
    assert outcome.reads == []
    assert sorted(row["reason"] for row in outcome.rejects) == [
        "the id contains a control character",
        "the id contains a lone surrogate",
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.pdf", "a.parquet"])
def test_a_file_that_goes_away_is_rejected(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x")
    (tmp_path / "b.txt").write_text("b")
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        reads = read_documents([tmp_path / name, tmp_path / "b.txt"], rejects)
        (tmp_path / name).unlink()
        assert [read.document.id for read in reads] == ["b.txt"]
        assert rejects.count == 1


def test_the_fingerprint_follows_names_and_bytes(corpus: Path, tmp_path: Path) -> None:
    first = inputs_fingerprint([corpus])
    assert len(first) == 64
    moved = tmp_path / "elsewhere"
    shutil.copytree(corpus, moved)
    assert inputs_fingerprint([moved]) == first
    (moved / "picture.png").unlink()
    assert inputs_fingerprint([moved]) == first
    (moved / "a.txt").write_text("b")
    changed = inputs_fingerprint([moved])
    (moved / "a.txt").write_text("a")
    (moved / "a.txt").rename(moved / "aa.txt")
    renamed = inputs_fingerprint([moved])
    assert len({first, changed, renamed, inputs_fingerprint([corpus / "a.txt"])}) == 4

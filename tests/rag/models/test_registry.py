"""pip as the carrier: what it brings, what it refuses, and how a broken connection ends."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from wheel_shelf import Notes, Shelf

from indexes.errors import DownloadFailed
from rag.models.catalogue import Entry, Wheel
from rag.models.pull import pull
from rag.models.registry import download_wheel

ABSENT = Wheel("no-such-thing", "1.0", "0" * 64, 1, ("x",))


class Flaky(SimpleHTTPRequestHandler):
    """Serves files, knows ranges, and breaks off the first large answer in the middle."""

    drops = 0

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file() or path.suffix != ".whl":
            super().do_GET()
            return
        content = path.read_bytes()
        found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if type(self).drops:
            type(self).drops -= 1
            end = start + (len(content) - start) // 2
        self.wfile.write(content[start:end])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def simple_index(shelf: Shelf, wheel: Wheel) -> Iterator[dict[str, str]]:
    """A simple index over HTTP on the loopback interface; yields pip's environment."""
    page = shelf.folder / "simple" / "carrier" / "index.html"
    page.parent.mkdir(parents=True)
    name = shelf.path(wheel).name
    page.write_text(f'<a href="../../{name}#sha256={wheel.sha256}">{name}</a>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Flaky, directory=str(shelf.folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    environ = {k: v for k, v in shelf.environ.items() if k != "PIP_NO_INDEX"}
    environ["PIP_INDEX_URL"] = f"http://127.0.0.1:{server.server_port}/simple"
    try:
        yield environ | {"PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1"}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_pinned_wheel_arrives(shelf: Shelf, tmp_path: Path) -> None:
    wheel, notes = shelf.add("carrier", {"a": b"1"}), Notes()
    found = download_wheel(wheel, tmp_path / "out", notes, shelf.environ)
    assert found.read_bytes() == shelf.path(wheel).read_bytes()
    assert [p.name for p in (tmp_path / "out").iterdir()] == [found.name]
    assert notes.done == wheel.size_bytes


@pytest.mark.slow
def test_an_absent_wheel(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="No matching distribution found for no-such-thing"):
        download_wheel(ABSENT, tmp_path, Notes(), shelf.environ)
    assert list(tmp_path.glob("*.whl")) == []


def test_another_digest_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    wheel = msgspec.structs.replace(shelf.add("carrier", {"a": b"1"}), sha256="0" * 64)
    with pytest.raises(DownloadFailed, match="Expected sha256 0000"):
        download_wheel(wheel, tmp_path / "out", Notes(), shelf.environ)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_an_index_out_of_reach_is_told_from_an_absent_wheel(shelf: Shelf, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{free.getsockname()[1]}/simple"
        environ = shelf.environ | {"PIP_INDEX_URL": index, "PIP_RETRIES": "1"}
        del environ["PIP_NO_INDEX"]
        with pytest.raises(DownloadFailed, match="Connection refused"):
            download_wheel(ABSENT, tmp_path, Notes(), environ)


@pytest.mark.slow
def test_a_dropped_connection_is_resumed(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Flaky, "drops", 1)
    with simple_index(shelf, dense_entry.wheels[0]) as environ:
        folder = pull(dense_entry, tmp_path / "cache", environ=environ)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert Flaky.drops == 0
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


@pytest.mark.slow
def test_finished_wheels_are_not_asked_for_again(shelf: Shelf, tmp_path: Path) -> None:
    """What a kill leaves: the first part is there, the second pull only brings the rest."""
    first, second = shelf.add("part-one", {"a": b"1"}), shelf.add("part-two", {"b": b"2"})
    from wheel_shelf import make_entry, plain_file

    entry = make_entry(
        (first, second), (plain_file("a", b"1"), plain_file("b", b"2")), kind="corpus"
    )
    hidden = shelf.path(second).rename(tmp_path / "hidden")
    with pytest.raises(DownloadFailed):
        pull(entry, tmp_path / "cache", environ=shelf.environ)
    hidden.rename(shelf.path(second))
    shelf.path(first).unlink()
    folder = pull(entry, tmp_path / "cache", environ=shelf.environ)
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b"]

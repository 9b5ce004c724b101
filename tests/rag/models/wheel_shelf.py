"""Tiny wheels in a local folder that pip is pointed at: real pip, real zips, no network."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from rag.models.catalogue import Entry, File, Wheel

CHUNK_BYTES = 1 << 16


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def model_contents(seed: int = 0) -> dict[str, bytes]:
    """A folder that passes for a model: config and one tensor."""
    tensor = np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)
    return {
        "config.json": json.dumps({"architectures": ["BertModel"]}).encode(),
        "model.safetensors": save({"weight": tensor}),
    }


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class Shelf:
    """A folder of wheels, and the environment that makes pip see nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    @property
    def environ(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        return clean | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.folder),
        }

    def add(self, distribution: str, contents: Mapping[str, bytes]) -> Wheel:
        """A wheel holding `contents`; its own metadata demands a package that does not exist."""
        stem = f"{distribution.replace('-', '_')}-1.0"
        path = self.folder / f"{stem}-py3-none-any.whl"
        metadata = (
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
            "Requires-Dist: heavy-thing\n"
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
            archive.writestr(f"{stem}.dist-info/METADATA", metadata)
            archive.writestr(
                f"{stem}.dist-info/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        content = path.read_bytes()
        return Wheel(
            distribution=distribution,
            version="1.0",
            sha256=sha256(content),
            size_bytes=len(content),
            members=tuple(contents),
        )

    def path(self, wheel: Wheel) -> Path:
        name = wheel.distribution.replace("-", "_")
        return self.folder / f"{name}-{wheel.version}-py3-none-any.whl"


def make_entry(wheels: tuple[Wheel, ...], files: tuple[File, ...], **changes: object) -> Entry:
    fields: dict[str, object] = {
        "name": "tiny-model",
        "kind": "dense",
        "revision": files[0].sha256[:12],
        "licence": "Apache-2.0",
        "attribution": "nobody",
        "what": "a model for tests",
        "weights": files[0].path,
    }
    return Entry(wheels=wheels, files=files, **(fields | changes))  # type: ignore[arg-type]


def plain_file(member: str, content: bytes, path: str = "") -> File:
    return File(
        path=path or member.rpartition("/")[2],
        sha256=sha256(content),
        size_bytes=len(content),
        parts=(member,),
    )


class FileServer:
    """One file over HTTP with ranges; `drops` says after how many bytes each answer breaks off."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.drops: list[int] = []
        self.statuses: list[int] = []
        self.ranges: list[str | None] = []
        self.knows_ranges = True
        self.chunk_pause_s = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/file.whl"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, owner: FileServer, *args: object) -> None:
        self.owner = owner
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        owner = self.owner
        wanted = self.headers.get("Range")
        owner.ranges.append(wanted)
        if owner.statuses:
            self.send_response(owner.statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        start = start if owner.knows_ranges else 0
        body = owner.content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(owner.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(owner.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: owner.drops.pop(0)] if owner.drops else body
        with suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(body), CHUNK_BYTES):
                self.wfile.write(body[at : at + CHUNK_BYTES])
                time.sleep(owner.chunk_pause_s)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


class Notes:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bars: list[tuple[str, int | None]] = []
        self.done = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def start(self, title: str, total: int | None, unit: str) -> None:
        self.bars.append((title, total))

    def advance(self, amount: int) -> None:
        self.done += amount

    def finish(self) -> None:
        self.bars.append(("end", None))


def pull_in_process(entry: Entry, cache: Path, environ: dict[str, str]) -> None:
    """What a second process of the concurrency test runs."""
    from rag.models.pull import pull

    pull(entry, cache, environ=environ)

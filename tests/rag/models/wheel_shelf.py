"""Tiny wheels in a local folder that pip is pointed at: real pip, real zips, no network."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
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

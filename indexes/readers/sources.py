"""Which files an input names: a file, a folder of files, or a BEIR folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from indexes.errors import UsageError

RECORD_SUFFIXES: Final = (".jsonl", ".ndjson", ".csv", ".tsv")
PAGE_SUFFIXES: Final = (".md", ".markdown", ".txt", ".html", ".htm", ".pdf")
FORMATS: Final = {
    **{suffix: suffix for suffix in (*RECORD_SUFFIXES, *PAGE_SUFFIXES, ".parquet")},
    **{f"{suffix}.gz": suffix for suffix in RECORD_SUFFIXES},
}
"""Ending of a file's name to the suffix of its format."""

_BEIR_CORPUS: Final = ("corpus.jsonl", "corpus.jsonl.gz")


class Source(msgspec.Struct, frozen=True):
    """One file to read. `name` is its path below the folder given, in posix form."""

    path: Path
    name: str
    suffix: str
    n_bytes: int

    @property
    def is_gzip(self) -> bool:
        """Whether the file is compressed, by its name."""
        return self.name.lower().endswith(".gz")


class Skipped(msgspec.Struct, frozen=True):
    """An entry of a folder that must not be read, and why."""

    path: Path
    reason: str


def list_sources(paths: Sequence[Path]) -> tuple[list[Source], list[Skipped]]:
    """The files that `paths` name, in order, folders sorted by name, each file once.

    In a folder, hidden entries and other formats are passed over; symbolic links that lead out of
    it, links to folders, and folders that cannot be opened are listed as skipped. Raises
    `UsageError` for a path that is missing, of a format we do not read, or a folder with nothing
    to read.
    """
    sources: list[Source] = []
    skipped: list[Skipped] = []
    seen: set[Path] = set()
    for path in paths:
        for entry in _expand(path):
            if isinstance(entry, Skipped):
                skipped.append(entry)
                continue
            resolved = entry.path.resolve()
            if resolved not in seen:
                seen.add(resolved)
                sources.append(entry)
    return sources, skipped


def total_bytes(paths: Sequence[Path]) -> int:
    """Bytes on disk of all the inputs: what `on_bytes` of `read_documents` adds up to."""
    return sum(source.n_bytes for source in list_sources(paths)[0])


def inputs_fingerprint(paths: Sequence[Path]) -> str:
    """SHA-256 over every input's name below the path given and its bytes, in order.

    A corpus that only moved keeps its fingerprint; one changed byte, name or file changes it.
    """
    digest = hashlib.sha256()
    for source in list_sources(paths)[0]:
        name = os.fsencode(source.name)
        try:
            with source.path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            content = bytes(digest.digest_size)  # reading will reject the file
        digest.update(len(name).to_bytes(8, "big") + name + content)
    return digest.hexdigest()


def format_of(path: Path) -> str | None:
    """Suffix of the format that a file's name announces; None when we read no such format."""
    name = path.name.lower()
    return next((FORMATS[ending] for ending in FORMATS if name.endswith(ending)), None)


def _expand(path: Path) -> Iterator[Source | Skipped]:
    if path.is_dir():
        yield from _expand_folder(path)
        return
    if not path.exists():
        raise UsageError(f"there is no file or folder {str(path)!r}")
    suffix = format_of(path)
    if suffix is None or not path.is_file():
        known = " ".join(FORMATS)
        raise UsageError(f"cannot read {str(path)!r}: give a folder or a file ending in {known}")
    yield Source(path, path.name, suffix, path.stat().st_size)


def _expand_folder(folder: Path) -> Iterator[Source | Skipped]:
    for name in _BEIR_CORPUS:
        if (folder / name).is_file():
            yield Source(folder / name, name, ".jsonl", (folder / name).stat().st_size)
            return
    found = False
    closed: list[OSError] = []
    for path in sorted(_walk(folder, closed), key=lambda path: path.relative_to(folder).as_posix()):
        entry = _judge(path, folder)
        if entry is not None:
            found = True
            yield entry
    for error in closed:
        yield Skipped(Path(error.filename), f"the folder cannot be opened: {error.strerror}")
    if not found:
        known = " ".join(FORMATS)
        raise UsageError(f"the folder {str(folder)!r} holds no file ending in {known}")


def _walk(folder: Path, closed: list[OSError]) -> Iterator[Path]:
    """Files below the folder, and links to folders; hidden entries are left out.

    Folders that cannot be opened are added to `closed`.
    """
    for base, folders, files in os.walk(folder, onerror=closed.append, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if Path(base, name).is_symlink():
                yield Path(base, name)
        yield from (Path(base, name) for name in files if not name.startswith("."))


def _judge(path: Path, folder: Path) -> Source | Skipped | None:
    if path.is_symlink():
        if path.is_dir():
            return Skipped(path, "a link to a folder is not followed")
        if not path.resolve().is_relative_to(folder.resolve()):
            return Skipped(path, "the symbolic link leads out of the folder")
        if not path.exists():
            return Skipped(path, "the symbolic link leads nowhere")
    suffix = format_of(path)
    if suffix is None or not path.is_file():
        return None
    return Source(path, path.relative_to(folder).as_posix(), suffix, path.stat().st_size)

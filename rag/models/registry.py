"""Wheels come through pip, so the person's own index, proxy, certificates and passwords apply.

A finished wheel is kept, so an interrupted pull goes on with the next one; a dropped connection
inside a wheel is pip's to resume.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO

from indexes.errors import DownloadFailed
from rag.models.catalogue import Wheel
from rag.progress import Progress

_DOWNLOAD = (
    *("download", "--no-deps", "--ignore-requires-python", "--only-binary", ":all:"),
    *("--no-input", "--disable-pip-version-check", "--require-hashes"),
)
_RAW_PROGRESS_SINCE = (24, 1)
_PROGRESS = re.compile(rb"Progress (\d+) of \d+")
_BROKEN = "connection broken by "


def download_wheel(
    wheel: Wheel, folder: Path, progress: Progress, environ: Mapping[str, str] | None = None
) -> Path:
    """Let pip fetch the wheel into `folder`; nothing is installed, none of its code runs.

    pip is given the pinned SHA-256 and refuses other bytes. `environ` replaces the environment it
    runs in. Raises `DownloadFailed` with pip's own reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pins = Path(scratch) / "pins.txt"
        pins.write_text(f"{_requirement(wheel)} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        arrived = Path(scratch) / "arrived"
        bar = "raw" if _pip_version() >= _RAW_PROGRESS_SINCE else "off"
        arguments = (*_DOWNLOAD, "--progress-bar", bar, "--dest", str(arrived), "-r", str(pins))
        progress.start(f"getting {_requirement(wheel)}", wheel.size_bytes, "B")
        try:
            progress.advance(wheel.size_bytes - _run_pip(arguments, progress, environ))
        finally:
            progress.finish()
        files = sorted(arrived.glob("*.whl"))
        if len(files) != 1:
            raise DownloadFailed(f"pip did not download {_requirement(wheel)}")
        return files[0].replace(folder / files[0].name)


def _run_pip(
    arguments: tuple[str, ...], progress: Progress, environ: Mapping[str, str] | None
) -> int:
    """Run pip to its end and return the bytes it told of."""
    told = 0
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "pip", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environ,
            )
        except OSError as error:
            raise DownloadFailed(f"cannot run pip: {error.strerror}") from error
        with process:
            told = _follow(process.stdout, progress) if process.stdout else 0
        if process.returncode != 0:
            errors.seek(0)
            raise DownloadFailed(f"pip download failed: {_reason(errors.read())}")
    return told


def _follow(output: IO[bytes], progress: Progress) -> int:
    told = 0
    for line in output:
        found = _PROGRESS.search(line)
        if found:
            progress.advance(int(found[1]) - told)
            told = int(found[1])
    return told


def _pip_version() -> tuple[int, ...]:
    return tuple(int(part) for part in version("pip").split(".")[:2] if part.isdigit())


def _reason(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    mismatch = [line for line in lines if line.startswith(("Expected sha256", "Got"))]
    # Out of reach, pip's error is that nothing matches; the cause is in a warning before it.
    broken = [line.partition(_BROKEN)[2] for line in lines if _BROKEN in line][-1:]
    return "; ".join([*broken, *errors, *mismatch] or lines[-1:]) or "it gave no reason"


def _requirement(wheel: Wheel) -> str:
    return f"{wheel.distribution}=={wheel.version}"

"""Where a wheel lies: pip is asked, so the person's own index, proxy and certificates decide."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from indexes.errors import DownloadFailed
from rag.models.catalogue import Wheel

_REPORT = (
    *("install", "--dry-run", "--ignore-installed", "--no-deps", "--ignore-requires-python"),
    *("--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"),
    *("--report", "-"),
)
_DOWNLOAD = (
    *("download", "--no-deps", "--ignore-requires-python", "--only-binary", ":all:"),
    *("--no-input", "--disable-pip-version-check", "--quiet", "--progress-bar", "off"),
)
_BROKEN = "connection broken by "
# pip reads a command's own section and the environment after the global one: later wins.
_SECTIONS = ("global", "install", ":env:")


class Access(msgspec.Struct, frozen=True):
    """The parts of pip's configuration that a transfer needs."""

    certificates: str | None = None
    proxy: str | None = None


class _ArchiveInfo(msgspec.Struct, frozen=True):
    hashes: dict[str, str] = {}


class _DownloadInfo(msgspec.Struct, frozen=True):
    url: str
    archive_info: _ArchiveInfo = _ArchiveInfo()


class _Metadata(msgspec.Struct, frozen=True):
    name: str


class _Install(msgspec.Struct, frozen=True):
    download_info: _DownloadInfo
    metadata: _Metadata


class _Report(msgspec.Struct, frozen=True):
    install: list[_Install]


def locate_wheels(
    wheels: Sequence[Wheel], environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """URL of each wheel by its distribution's name. Nothing is installed, no code of a wheel runs.

    `environ` replaces the environment pip runs in. Raises `DownloadFailed` when pip finds no such
    wheel, or one with another SHA-256 than the pinned one.
    """
    output = _pip([*_REPORT, *map(_requirement, wheels)], environ)
    try:
        report = msgspec.json.decode(output, type=_Report)
    except msgspec.DecodeError as error:
        raise DownloadFailed(f"pip's report cannot be read: {error}") from error
    found = {_canonical(install.metadata.name): install.download_info for install in report.install}
    urls = {}
    for wheel in wheels:
        info = found.get(_canonical(wheel.distribution))
        if info is None:
            raise DownloadFailed(f"pip found no wheel for {_requirement(wheel)}")
        reported = info.archive_info.hashes.get("sha256", wheel.sha256)
        if reported != wheel.sha256:
            raise DownloadFailed(
                f"the registry offers {_requirement(wheel)} with SHA-256 {reported}, "
                f"but {wheel.sha256} is expected; not downloaded"
            )
        urls[wheel.distribution] = info.url
    return urls


def read_access(environ: Mapping[str, str] | None = None) -> Access:
    """Certificates and proxy as pip is configured to use them."""
    values: dict[str, dict[str, str]] = {}
    for line in _pip(["config", "list"], environ).decode(errors="replace").splitlines():
        key, separator, literal = line.partition("=")
        section, dot, option = key.rpartition(".")
        if separator and dot and section in _SECTIONS:
            values.setdefault(option, {})[section] = str(ast.literal_eval(literal))
    chosen = {
        option: next((found[s] for s in reversed(_SECTIONS) if s in found), None)
        for option, found in values.items()
    }
    return Access(certificates=chosen.get("cert"), proxy=chosen.get("proxy"))


def download_with_pip(wheel: Wheel, folder: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Let pip fetch the wheel into `folder`: it may hold credentials that only pip knows.

    Slower to recover than our own transfer, as pip starts again after a kill. Raises
    `DownloadFailed`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _pip([*_DOWNLOAD, "--dest", str(folder), _requirement(wheel)], environ)
    files = sorted(folder.glob("*.whl"))
    if len(files) != 1:
        raise DownloadFailed(f"pip did not download {_requirement(wheel)}")
    return files[0]


def _pip(arguments: Sequence[str], environ: Mapping[str, str] | None) -> bytes:
    command = [sys.executable, "-m", "pip", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, env=environ, check=False)
    except OSError as error:
        raise DownloadFailed(f"cannot run pip: {error.strerror}") from error
    if done.returncode != 0:
        raise DownloadFailed(f"pip {arguments[0]} failed: {_reason(done.stderr)}")
    return done.stdout


def _reason(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    # Out of reach, pip's error is that nothing matches; the cause is in a warning before it.
    broken = [line.partition(_BROKEN)[2] for line in lines if _BROKEN in line][-1:]
    return "; ".join([*broken, *errors] or lines[-1:]) or "it gave no reason"


def _requirement(wheel: Wheel) -> str:
    return f"{wheel.distribution}=={wheel.version}"


def _canonical(name: str) -> str:
    """PEP 503: letter case and the kind of separator do not matter."""
    return name.lower().replace("_", "-").replace(".", "-")

"""One file over HTTP(S) or from a `file:` URL, resumed where an earlier attempt stopped."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from indexes.errors import DownloadFailed
from rag.models.registry import Access
from rag.progress import Progress, Silent

CHUNK_BYTES = 1 << 20
_TIMEOUT = httpx.Timeout(60.0, connect=20.0)
_TRANSIENT_STATUS = frozenset({408, 416, 425, 429, 500, 502, 503, 504})


def transfer(
    url: str,
    part: Path,
    *,
    size_bytes: int,
    access: Access | None = None,
    progress: Progress | None = None,
    attempts: int = 5,
    backoff_s: float = 0.5,
) -> None:
    """Make `part` hold the `size_bytes` bytes of `url`, keeping what it already holds.

    The content is not checked here: the caller compares the SHA-256. A dropped connection is tried
    again `attempts` times without a byte gained, each wait twice as long as the one before. Raises
    `DownloadFailed`; what arrived stays in `part`, so a later call goes on from there.
    """
    progress = progress or Silent()
    part.parent.mkdir(parents=True, exist_ok=True)
    if _held(part) > size_bytes:
        part.unlink()
    progress.start(f"getting {part.stem}", size_bytes, "B")
    progress.advance(_held(part))
    try:
        scheme = urlsplit(url).scheme
        if scheme == "file":
            _copy(url, part, size_bytes, progress)
        elif scheme in ("http", "https"):
            _fetch_with_retries(
                url, part, size_bytes, access or Access(), progress, attempts, backoff_s
            )
        else:
            raise DownloadFailed(f"cannot download over {scheme!r}")
    finally:
        progress.finish()


def _fetch_with_retries(
    url: str,
    part: Path,
    size_bytes: int,
    access: Access,
    progress: Progress,
    attempts: int,
    backoff_s: float,
) -> None:
    failures = 0
    reason = "the connection was closed early"
    with _client(access) as client:
        while (held := _held(part)) < size_bytes:
            try:
                _fetch(client, url, part, size_bytes, progress)
            except httpx.HTTPStatusError as error:
                reason = f"the server answered {error.response.status_code}"
                if error.response.status_code not in _TRANSIENT_STATUS:
                    raise DownloadFailed(f"{part.stem}: {reason}") from error
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if _held(part) > held:
                failures = 0
                continue
            failures += 1
            if failures >= attempts:
                raise DownloadFailed(
                    f"{part.stem}: {reason}; {held} of {size_bytes} bytes are kept, "
                    "the next pull goes on from there"
                )
            progress.note(f"{part.stem}: {reason}; trying again")
            time.sleep(backoff_s * 2 ** (failures - 1))


def _fetch(client: httpx.Client, url: str, part: Path, size_bytes: int, progress: Progress) -> None:
    """Append the rest of the file; start over when the server does not know ranges."""
    held = _held(part)
    # identity: with a compressed body the range would count other bytes than ours.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={held}-"} if held else {})}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        response.raise_for_status()
        if held and not _continues(response, held):
            progress.advance(-held)
            held = 0
        with part.open("r+b" if held else "wb") as file:
            file.seek(held)
            # As they come: gathered into larger chunks, a dropped connection would lose the last.
            for chunk in response.iter_raw():
                held += len(chunk)
                if held > size_bytes:
                    raise DownloadFailed(
                        f"{part.stem}: the server sends over {size_bytes} bytes, what is expected"
                    )
                file.write(chunk)
                progress.advance(len(chunk))


def _continues(response: httpx.Response, held: int) -> bool:
    content_range = response.headers.get("Content-Range", "")
    return response.status_code == httpx.codes.PARTIAL_CONTENT and content_range.startswith(
        f"bytes {held}-"
    )


def _copy(url: str, part: Path, size_bytes: int, progress: Progress) -> None:
    source = Path(url2pathname(urlsplit(url).path))
    held = _held(part)
    try:
        with source.open("rb") as reader, part.open("r+b" if held else "wb") as writer:
            reader.seek(held)
            writer.seek(held)
            while chunk := reader.read(CHUNK_BYTES):
                writer.write(chunk)
                progress.advance(len(chunk))
    except OSError as error:
        raise DownloadFailed(f"cannot copy {source}: {error.strerror}") from error
    if _held(part) != size_bytes:
        part.unlink()
        raise DownloadFailed(f"{source} has another size than the expected {size_bytes} bytes")


def _client(access: Access) -> httpx.Client:
    try:
        verify = (
            ssl.create_default_context(cafile=access.certificates)
            if access.certificates
            else httpx.create_ssl_context()
        )
    except OSError as error:
        raise DownloadFailed(
            f"cannot read the certificates {access.certificates}: {error}"
        ) from error
    return httpx.Client(verify=verify, proxy=access.proxy, timeout=_TIMEOUT, follow_redirects=True)


def _held(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0

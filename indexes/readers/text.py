"""Files that are one document each: plain text, Markdown and HTML."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import regex

from indexes.errors import InputTooLarge, MalformedInput
from indexes.readers.html import html_text
from indexes.readers.intake import Intake, Read
from indexes.readers.sources import Source

_HEADING: Final = regex.compile(r"^ {0,3}#{1,6}[ \t]++([^\n]*[^\s#])[ \t#]*$", regex.MULTILINE)
_CHARSET: Final = regex.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w-]{1,40})", regex.I)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(source: Source, intake: Intake) -> Iterator[Read]:
    """The document of a text file; the file's stem is the title."""
    content = _load(source, intake)
    if content is not None:
        yield from _accept(stem(source), content, source, intake)


def read_markdown(source: Source, intake: Intake) -> Iterator[Read]:
    """The document of a Markdown file, as written; the first `#` heading is the title."""
    content = _load(source, intake)
    if content is not None:
        heading = _HEADING.search(content)
        yield from _accept(heading[1] if heading else stem(source), content, source, intake)


def read_html(source: Source, intake: Intake) -> Iterator[Read]:
    """The text of an HTML file; `<title>`, or the first heading, is the title."""
    content = _load(source, intake)
    if content is not None:
        title, text = html_text(content)
        yield from _accept(title or stem(source), text, source, intake)


def stem(source: Source) -> str:
    """A file's name without folder and suffix, for want of a better title."""
    return PurePosixPath(source.name).stem


def _accept(title: str, text: str, source: Source, intake: Intake) -> Iterator[Read]:
    read = intake.accept_page(title, text, source)
    if read is not None:
        yield read


def _load(source: Source, intake: Intake) -> str | None:
    """The file's text, or None after rejecting it."""
    limit = intake.config.max_document_bytes
    try:
        return _decode(_bounded(source.path, limit), is_html=source.suffix in {".html", ".htm"})
    except OSError as error:
        intake.reject(source, None, f"the file cannot be opened: {error.strerror}", source.name)
    except (InputTooLarge, MalformedInput) as error:
        intake.reject(source, None, str(error), source.name)
    return None


def _bounded(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputTooLarge(f"the file is longer than {limit} bytes")
    return content


def _decode(content: bytes, *, is_html: bool) -> str:
    """By byte-order mark, by what an HTML page says of itself, else UTF-8."""
    encoding = next((name for mark, name in _BOMS if content.startswith(mark)), "utf-8")
    declared = _CHARSET.search(content, 0, 1024) if is_html and encoding == "utf-8" else None
    if declared:
        encoding = declared[1].decode("ascii", "replace")
    try:
        return content.decode(encoding)
    except LookupError:
        raise MalformedInput(f"the file declares an unknown encoding, {encoding!r}") from None
    except UnicodeError:
        raise MalformedInput(f"the file is not valid {encoding.upper()}") from None

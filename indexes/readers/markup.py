"""Tags and text of an HTML page, in time linear in the page whatever is wrong with it.

The standard library's parser takes quadratic time on some broken pages (an unclosed comment, a
mass of `</`), and pages come from anywhere. This scanner follows the same tokenisation rules of the
HTML standard as far as reading text needs them: it knows tags, attributes (passed over), comments,
declarations, and elements whose content is not markup.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from html import unescape
from typing import Final, NamedTuple

_OPENING: Final = re.compile(r"<(?:(?P<slash>/?)(?P<name>[a-zA-Z][^\s/>]*+)|[!?/])")
_ATTRIBUTES: Final = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_MAX_ATTRIBUTE_CHARS: Final = 1024
"""Past this, the next `>` ends a tag even inside quotes: the price of linear time."""

_RAW: Final = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "iframe", "noembed", "noframes", "xmp")
}
"""Elements whose content runs, without markup, to their end tag."""

_HUGE_REFERENCE: Final = re.compile(r"&#(?:[xX][0-9a-fA-F]{8,}+|[0-9]{8,}+);?")


class Start(NamedTuple):
    """A start tag; the name is lower-cased."""

    name: str


class End(NamedTuple):
    """An end tag; the name is lower-cased."""

    name: str


class Text(NamedTuple):
    """A stretch of text with its character references resolved."""

    text: str


def scan_markup(page: str) -> Iterator[Start | End | Text]:
    """Tags and text of a page in order. Comments and declarations are left out."""
    at = 0
    while opening := _OPENING.search(page, at):
        if opening.start() > at:
            yield Text(_resolve(page[at : opening.start()]))
        name = opening["name"]
        if name is None:
            at = _end_of_comment(page, opening.start())
        else:
            at = _end_of_tag(page, opening.end())
        if at < 0:
            return  # what never ends swallows the rest, as in a browser
        if name is not None:
            at = yield from _tag(page, name.lower(), is_end=bool(opening["slash"]), after=at)
    if at < len(page):
        yield Text(_resolve(page[at:]))


def _tag(
    page: str, name: str, *, is_end: bool, after: int
) -> Generator[Start | End | Text, None, int]:
    """The tag's own tokens; returns where to go on."""
    if is_end:
        yield End(name)
        return after
    yield Start(name)
    if page[after - 2] == "/":
        yield End(name)
    elif name in _RAW:
        close = _RAW[name].search(page, after)
        stop = close.start() if close else len(page)
        if stop > after:
            yield Text(_resolve(page[after:stop]))
        return stop
    return after


def _end_of_tag(page: str, at: int) -> int:
    whole = _ATTRIBUTES.match(page, at, at + _MAX_ATTRIBUTE_CHARS)
    return whole.end() if whole else _after(page, ">", at)


def _end_of_comment(page: str, at: int) -> int:
    if not page.startswith("<!--", at):
        return _after(page, ">", at)
    if page.startswith((">", "->"), at + 4):
        return page.index(">", at) + 1
    return _after(page, "-->", at + 4)


def _after(page: str, mark: str, at: int) -> int:
    found = page.find(mark, at)
    return found + len(mark) if found >= 0 else -1


def _resolve(text: str) -> str:
    """Character references resolved; a number no character can have becomes U+FFFD."""
    return unescape(_HUGE_REFERENCE.sub("\ufffd", text)) if "&" in text else text

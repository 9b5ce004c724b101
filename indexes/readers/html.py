"""The readable text of an HTML page."""

from __future__ import annotations

import re
from typing import Final

from indexes.readers.markup import End, Start, Text, scan_markup

_UNSEEN: Final = frozenset({"script", "style", "template", "noscript", "svg", "math", "head"})
_LINES: Final = frozenset({"br", "hr", "li", "dt", "dd", "tr", "option"})
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "details", "div", "dl"}
    | {"fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"}
    | {"header", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "ul"}
)
_CELLS: Final = frozenset({"td", "th"})
_HEADINGS: Final = frozenset({"h1", "h2", "h3"})
_MAX_TITLE_CHARS: Final = 512
_SPACES: Final = re.compile(r"[^\S\n]+")


def html_text(page: str) -> tuple[str, str]:
    """The title and the text of a page.

    Scripts, styles and other unseen parts are dropped, character references resolved, white space
    collapsed; a block stands apart by a blank line, so it also ends a sentence.
    """
    collected = _Collected()
    for token in scan_markup(page):
        match token:
            case Start(name):
                collected.start(name)
            case End(name):
                collected.end(name)
            case Text(text):
                collected.add(text)
    return collected.title(), collected.text()


class _Collected:
    """Text collected so far, and where in the page's structure we are."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._title: list[str] = []
        self._heading: list[str] = []
        self._inside: str | None = None
        self._unseen: list[str] = []
        self._heading_done = False

    def start(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._open_block()
        if tag == "title" and self._unseen in ([], ["head"]):
            self._inside = "title"
        elif tag in _UNSEEN:
            self._unseen.append(tag)
        elif tag in _HEADINGS and not self._heading_done:
            self._inside = tag
        self._break(tag)

    def end(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None
            self._heading_done = self._heading_done or tag in _HEADINGS
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        self._break(tag)

    def add(self, text: str) -> None:
        if self._inside == "title":
            self._title.append(text)
        elif not self._unseen:
            self._parts.append(text.replace("\n", " "))
            if self._inside:
                self._heading.append(text)

    def _open_block(self) -> None:
        """A block ends what was left open before it: a heading, and the head of the page."""
        if self._inside in _HEADINGS:
            self._inside, self._heading_done = None, True
        if self._unseen == ["head"]:
            self._unseen.clear()

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._parts.append("\n\n")
        elif tag in _LINES:
            self._parts.append("\n")
        elif tag in _CELLS:
            self._parts.append(" ")

    def title(self) -> str:
        return " ".join("".join(self._title or self._heading).split())[:_MAX_TITLE_CHARS]

    def text(self) -> str:
        lines = [line.strip() for line in _SPACES.sub(" ", "".join(self._parts)).split("\n")]
        kept = [line for n, line in enumerate(lines) if line or (n and lines[n - 1])]
        return "\n".join(kept).strip()

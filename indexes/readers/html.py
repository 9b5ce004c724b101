"""The readable text of an HTML page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

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
    parser = _TextParser()
    parser.feed(page)
    parser.close()
    return parser.title(), parser.text()


class _TextParser(HTMLParser):
    """Collects text as the parser walks the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._title: list[str] = []
        self._heading: list[str] = []
        self._inside: str | None = None
        self._unseen: list[str] = []
        self._heading_done = False

    def handle_starttag(
        self,
        tag: str,
        attrs: list[tuple[str, str | None]],  # noqa: ARG002  the base class's signature
    ) -> None:
        if tag in _BLOCKS:
            self._open_block()
        if tag == "title" and self._unseen in ([], ["head"]):
            self._inside = "title"
        elif tag in _UNSEEN:
            self._unseen.append(tag)
        elif tag in _HEADINGS and not self._heading_done:
            self._inside = tag
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None
            self._heading_done = self._heading_done or tag in _HEADINGS
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self._title.append(data)
        elif not self._unseen:
            self._parts.append(data.replace("\n", " "))
            if self._inside:
                self._heading.append(data)

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

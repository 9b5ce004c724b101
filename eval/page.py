"""The little HTML that the report needs; everything from outside is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light; --line: #d5d8dc; --soft: #f5f6f8; --ink: #1c2126; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 2px solid var(--line); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0 1.2rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th { background: var(--soft); } th:first-child, td:first-child { text-align: left; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; } figure img { max-width: 100%; }
figcaption, .note { color: #555c63; font-size: 13px; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; font-size: 13px; }
"""


class Link(str):
    """Text of a table cell that leads to an anchor of the same page: `Link(anchor, text)`."""

    __slots__ = ("anchor",)
    anchor: str

    def __new__(cls, anchor: str, text: str) -> Link:
        """The text, carrying its anchor."""
        link = super().__new__(cls, text)
        link.anchor = anchor
        return link


def page(title: str, body: Sequence[str]) -> str:
    """A whole document that loads nothing from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def heading(level: int, text: str, anchor: str = "") -> str:
    """A heading, with an anchor when one is given."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    return f"<h{level}{name}>{escape(text)}</h{level}>"


def note(text: str) -> str:
    """A paragraph of explanation."""
    return f'<p class="note">{escape(text)}</p>'


def block(text: str) -> str:
    """Preformatted text."""
    return f"<pre>{escape(text)}</pre>"


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are text or `Link`s."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """An SVG as an image of its own, so that ids inside it meet no others."""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _cell(cell: str) -> str:
    if isinstance(cell, Link):
        return f'<a href="#{escape(cell.anchor)}">{escape(cell)}</a>'
    return escape(cell)

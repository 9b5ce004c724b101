"""The readable text of HTML pages, good and broken."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.readers.html import html_text
from indexes.readers.markup import End, Start, Text, scan_markup

ARTICLE = """<html><head><title> The
 title </title><style>p{}</style></head><body><h1>Head</h1><p>One <b>bold</b>
 word.</p><ul><li>a<li>b</ul><script>if (a<b) c("</p>")</script>x<br>y</body>"""

PAGES = [
    (ARTICLE, "The title", "Head\n\nOne bold word.\n\na\nb\n\nx\ny"),
    ("<head><meta name=x><p>no end of head", "", "no end of head"),
    ("<h2>Only <i>heading</i></h2>text", "Only heading", "Only heading\n\ntext"),
    ("<table><tr><td>a<td>b<tr><th>c</table>", "", "a b\nc"),
    ("<svg><title>icon</title><text>no</text></svg>shown", "", "shown"),
    ("<svg/>shown", "", "shown"),
    ("<!-- <p>hidden --><p>&lt;shown&gt; &eacute;&#x1F600;&nbsp;x", "", "<shown> é😀 x"),
    ("plain, 1 < 2 & 3 > 2", "", "plain, 1 < 2 & 3 > 2"),
    ("<h1>never closed<p>para</p>", "never closed", "never closed\n\npara"),
    ("<div>a<div>b</div></div>", "", "a\n\nb"),
    ('<a title="x > y" href=\'">\'>link</a>', "", "link"),
    ('<img src="' + "A" * 10_000 + '">after', "", "after"),
    ("<P CLASS=x>Upper</P><SCRIPT>no</script >yes", "", "Upper\n\nyes"),
    ("<?xml version='1.0'?><!doctype html><p>a<!-->b<!--->c", "", "abc"),
    ("a<!-- never ends <p>b", "", "a"),
    ("a<p never ends", "", "a"),
    ("a<script>never ends", "", "a"),
    ("&#" + "9" * 10_000 + ";&#x110000;&#xD800;|", "", "\ufffd\ufffd\ufffd|"),
]


@pytest.mark.parametrize(("page", "title", "text"), PAGES)
def test_html_text(page: str, title: str, text: str) -> None:
    assert html_text(page) == (title, text)


class StandardParser(HTMLParser):
    """What the standard library makes of a page, as our tokens."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tokens: list[Start | End | Text] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tokens.append(Start(tag))

    def handle_endtag(self, tag: str) -> None:
        self.tokens.append(End(tag))

    def handle_data(self, data: str) -> None:
        self.tokens.append(Text(data))


def joined(tokens: list[Start | End | Text]) -> list[Start | End | Text]:
    """Adjacent texts as one."""
    result: list[Start | End | Text] = []
    for token in tokens:
        if isinstance(token, Text) and result and isinstance(result[-1], Text):
            result[-1] = Text(result[-1].text + token.text)
        else:
            result.append(token)
    return result


GOOD = """<p>|</p>|<P>|<br/>|<br>|<b>|</b>|<a href="x>y">|<a b='"' c=d e>|</a >|<h1>|</h1>
|<!--c-->|<!--<p>-->|<!doctype html>|<?pi?>|<script>if(a<b)c</script>|<style></style>|&amp;|&lt;
|&eacute;|&#65;|&#x1F600;|&nosuch;|x|word|é|😀|,|>|"q"|'|=|/|</ul >|<x-y>|<td/>| """


@given(st.lists(st.sampled_from(GOOD.split("|")), max_size=25).map("".join))
def test_well_formed_markup_scans_as_the_standard_parser_does(page: str) -> None:
    parser = StandardParser()
    parser.feed(page)
    parser.close()
    assert joined(list(scan_markup(page))) == joined(parser.tokens)


BROKEN = """<p>|<head>|</head>|<title>|</title>|<svg>|</svg>|<br/>|<h1>|</h1>|<!--|-->|--|<|&|&#0;
|<script>|</script>|x| |<a b='|'|"|>|</|<!|<?|<![CDATA[|]]>"""


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(BROKEN.split("|"))).map("".join)))
def test_no_page_brings_the_reader_down(page: str) -> None:
    title, text = html_text(page)
    assert text == text.strip()
    assert "\n\n\n" not in text
    assert "\n" not in title


UNITS = "<p>word |<|&|<div>|<!|</|<!--x>|<a '|<a b='>' |<script>|&#9|<svg>"


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS.split("|"))
def test_a_large_page_takes_no_long_time(unit: str) -> None:
    page = unit * (1_000_000 // len(unit))
    assert len(html_text(page)[1]) <= len(page)  # the test's time limit is the assertion

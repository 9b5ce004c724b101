"""Sentence boundaries, after Unicode UAX 29 (sentence rules) with abbreviations handled.

One left-to-right scan finds every place where a sentence might end, and each candidate is judged
from a bounded window around it, so the work is linear in the text whatever its shape. Where UAX 29
leaves the full stop open, these rules decide:

* a stop inside a token (`3.14`, `e.g.,`, `example.com`) ends nothing;
* titles, references and initials (`Dr.`, `Fig. 2`, `J. Smith`) do not end a sentence; an acronym
  (`U.S.`) or a company form (`Inc.`) does only before a word that usually opens one;
* before a lower-case word a stop ends a sentence only after a plain word of four letters or more;
* stops that need no space after them (CJK, Devanagari, Arabic, ...) always end a sentence;
* so do a blank line, a page break, and the line break before a list item or a heading.
"""

from __future__ import annotations

from typing import Final

import regex

_CANDIDATE: Final = regex.compile(
    r"""
      (?P<stop> [.!?\u2024\u2026]++ )               # Latin-like: needs a space after it
      (?P<closed> [\p{Pe}\p{Pf}\p{Pi}"'’]*+ (?: \[[\d,\ –-]{1,24}+\] )*+ )
    | (?P<full> (?: [\p{SB=ST}｡&&[^!?]] | ．(?!\p{Nd}) )++ [.!?\p{SB=ST}]*+ [\p{Pe}\p{Pf}"']*+ )
    | (?P<line> \n [^\S\n]*+ \n | [\f\u2029]
              | \n (?= [^\S\n]*+ (?: [-*•] | \#{1,6}+ | \d{1,3}+[.)] ) [^\S\n] ) )
    """,
    regex.VERSION1 | regex.VERBOSE,
)
_NEXT: Final = regex.compile(r"\s*+[\p{Ps}\p{Pi}\p{Pf}\"'¿¡*_]*+", regex.VERSION1)
_OPENER: Final = regex.compile(
    r"(?:The|This|That|These|Those|There|Then|They|He|She|It|Its|His|Her|Their|We|Our|You|Your|I|A|An|"
    r"In|On|At|By|For|From|To|With|As|If|When|While|Where|What|Who|Why|How|But|And|Or|So|Because|"
    r"After|Before|Since|During|Although|However|Moreover|Thus|Both|Each|Some|Many|Most|All|No|Not)"
    r"\b(?![.'’])"
)
_INITIALS: Final = regex.compile(r"(?:\p{L}\.)*\p{L}")
_WINDOW: Final = 24


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_NEVER_LAST: Final = _words(
    "mr mrs ms mx dr prof rev fr hon gen col maj capt cmdr lt sgt gov sen rep pres mt st messrs "
    "mme mlle e.g i.e eg ie cf viz vs approx ca fig figs eq eqs eqn refs vol vols pp ed eds resp "
    "incl dept univ"
)
"""Abbreviations that something always follows, lower-cased, without the last stop."""

_BEFORE_NUMBER: Final = _words(
    "no nos p ch chap sec sect art tab op par nr ser v ver lib ref jan feb mar apr jun jul aug sep "
    "sept oct nov dec"
)
"""Words that are abbreviations only before a number: `No. 5`, but `He said no. Then ...`."""

_MAYBE_LAST: Final = _words(
    "al etc inc ltd co corp llc bros plc jr sr esq ph.d jan feb apr aug sept oct nov dec"
)
"""Abbreviations that may close a sentence; the next word decides."""


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Split `text` into sentences, as (start, end) offsets in code points.

    The spans are ordered and disjoint, none begins or ends with white space, and together they
    cover every character that is not white space. Time is linear in `len(text)`.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for candidate in _CANDIDATE.finditer(text):
        if candidate.lastgroup == "closed" and not _ends_sentence(text, start, candidate):
            continue
        start = _append_stripped(spans, text, start, candidate.end())
    _append_stripped(spans, text, start, len(text))
    return spans


def _append_stripped(spans: list[tuple[int, int]], text: str, start: int, end: int) -> int:
    """Append text[start:end] without the white space around it; return `end`."""
    piece = text[start:end]
    kept = piece.strip()
    if kept:
        begin = start + len(piece) - len(piece.lstrip())
        spans.append((begin, begin + len(kept)))
    return end


def _ends_sentence(text: str, start: int, candidate: regex.Match[str]) -> bool:
    """Judge a Latin-like stop; `start` is where the sentence under way began."""
    stop, closed = candidate.group("stop", "closed")
    end = candidate.end()
    if end < len(text) and not text[end].isspace():
        return stop[-1] in "!?" and _is_unspaced(text[end])
    at = end + 1
    if not text[at : at + 1].isalnum():  # more than one space, an opening quote, or the end
        follow = _NEXT.match(text, end)
        at = follow.end() if follow else end
    if at >= len(text):
        return True
    following = text[at]
    if following in ",;:–—-" and not text[at + 1 : at + 2].isspace():
        return False
    if closed:
        return not following.islower() or closed[-1] == "]"
    if stop != ".":
        return not following.islower() or stop[-1] in "!?"
    return _full_stop_ends(text, start, end - 1, at)


def _full_stop_ends(text: str, start: int, stop: int, at: int) -> bool:
    """Judge a lone full stop at `stop` from the word before it and the text at `at`."""
    following = text[at]
    tail = text[max(0, stop - 6) : stop]
    if tail.isalpha() and tail.islower() and len(tail) == 6 and not following.islower():
        return tail not in _NEVER_LAST  # a plain word: what follows would come to the same
    words = text[max(start, stop - _WINDOW) : stop].rsplit(None, 1)
    if not words or text[stop - 1].isspace():
        return True
    word = words[-1].lstrip("([{\"'“‘«*_")
    folded = word.lower()
    if folded in _NEVER_LAST:
        return False
    if (folded in _BEFORE_NUMBER and following.isdigit()) or _is_item_number(text, start, stop):
        return False
    if _INITIALS.fullmatch(word) and not _is_unspaced(word):
        return _OPENER.match(text, at) is not None
    if folded in _MAYBE_LAST:
        return following.isupper() and _OPENER.match(text, at) is not None
    if following.islower():
        return len(word) >= 4 and word.isalpha()
    return True


def _is_item_number(text: str, start: int, stop: int) -> bool:
    """Whether all that stands before the stop is a list number, as in `12. Foo`."""
    return stop - start <= _WINDOW and text[start:stop].strip(" \t\r\n-*(#").isdecimal()


def _is_unspaced(ch: str) -> bool:
    """Whether a character belongs to a script that puts no space between sentences."""
    return "\u3000" <= ch <= "\u9fff" or "\uac00" <= ch <= "\ud7a3" or "\uf900" <= ch <= "\ufaff"

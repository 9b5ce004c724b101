"""Scripts written without spaces between words, which must be cut some other way."""

from __future__ import annotations

import re
from typing import Final

UNSPACED: Final = (
    r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Yi}\p{LB=SA}"
    r"\u30fc\uff70\uff9e\uff9f]&&[\p{L}\p{M}\u3007]]"
)
"""A character class (for `regex`, version 1) of the letters and marks of such scripts.

Hangul is among them, as in Lucene's CJK analyzer: Korean puts its particles on the word, so pairs
of syllables match where whole words would not.
"""

MAYBE_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u11ff\u1700-\u1aff\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef"
    "\U00010000-\U0001cfff\U00020000-\U0003ffff]"
)
"""Finds any character of `UNSPACED` and a few others: a quick test of a whole text."""

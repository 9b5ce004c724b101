"""The one analyzer: from text to index terms, the same for documents and queries.

An index saves its `AnalyzerConfig` and `fingerprint()` in its manifest; a query is analysed with
exactly that. What becomes a term:

* words: runs of letters, marks and numbers (UAX 29-like), with an apostrophe or a format character
  inside a word and a point or comma inside a number; `U.S.` and `US` give the same term;
* scripts written without spaces (Han, Kana, Hangul, Thai, Lao, Khmer, Myanmar, ...): overlapping
  pairs of grapheme clusters, a lone cluster by itself;
* emoji: one term a sequence.

Each term is NFKC-normalised and case-folded, loses a possessive `'s`, invisible characters and
(with `fold_accents`) the accents on Latin and Greek letters; stop words go; the rest is stemmed.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from array import array
from collections.abc import Container, Iterator
from typing import Final, Literal, NamedTuple

import msgspec
import regex
import Stemmer

from indexes.bounded_cache import BoundedCache
from indexes.errors import UsageError
from indexes.scripts import MAYBE_UNSPACED, UNSPACED

ALGORITHM_VERSION: Final = 1
"""Raised whenever the same configuration would give other terms; part of the fingerprint."""

MAX_TERM_CHARS: Final = 64
"""A longer term keeps its first 48 characters, told from others by 16 hex digits of a hash."""

_MEMO_ENTRIES: Final = 1 << 18

_READ_BYTES: Final = 32_000_000
"""Of texts whose tokens are remembered."""

_STOP_WORDS: Final = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
ENGLISH_STOP_WORDS: Final = frozenset(_STOP_WORDS.split())
"""The 33 words of Lucene's English analyzer, the list behind published BM25 baselines."""

_PLAIN: Final = re.compile("[\u3041-\u3096\u30a1-\u30fa\u30fc\u4e00-\u9fff\uac00-\ud7a3]++")
"""Characters that are a cluster each and their own term."""

_PICTURE: Final = r"[\p{ExtPict}--[\u0000-\u22ff]][\p{EMod}\ufe0f]*+"


def _compile(letter: str, mark: str, number: str, *alternatives: str) -> regex.Pattern[str]:
    """A token pattern over the given classes; quantifiers are possessive, so time is linear."""
    word = f"[{letter}{number}][{letter}{mark}{number}]*+"
    inside = r"['’＇׳״] | [\p{Cf}--\u200b]++ | (?<=\p{Nd})[.,](?=\p{Nd})"
    tokens = (
        rf"[{letter}]{mark}*+ (?: \.[{letter}]{mark}*+ ){{1,15}}+ (?! [{letter}{number}] )",
        rf"{word} (?: (?: {inside} ) {word} )*+",
        r"\p{RI}\p{RI}",
        rf"{_PICTURE} (?: \u200d {_PICTURE} )*+",
        *alternatives,
    )
    return regex.compile("|".join(tokens), regex.VERSION1 | regex.VERBOSE)


_TOKEN: Final = _compile(
    rf"[\p{{L}}--{UNSPACED}]",
    rf"[\p{{M}}--{UNSPACED}]",
    rf"[\p{{N}}--{UNSPACED}]",
    rf"(?P<unspaced> {UNSPACED} [{UNSPACED}\p{{M}}]*+ )",
)
_SPACED_TOKEN: Final = _compile(r"\p{L}", r"\p{M}", r"\p{N}")
"""What `_TOKEN` does to text without unspaced scripts, but faster."""

_ASCII_TOKEN: Final = re.compile(
    r"[A-Za-z](?:\.[A-Za-z]){1,15}+(?![A-Za-z0-9])"
    r"|[A-Za-z0-9]++(?:(?:'|(?<=[0-9])[.,](?=[0-9]))[A-Za-z0-9]++)*+"
)
"""What `_TOKEN` does to ASCII text, faster still."""

_CLUSTER: Final = regex.compile(r"\X")
_INVISIBLE: Final = regex.compile(r"[\p{DI}\p{Cf}\p{EMod}]", regex.VERSION1)
_ACCENTS: Final = regex.compile(r"([\p{Latin}\p{Greek}])[\u0300-\u036f]++", regex.VERSION1)
_APOSTROPHES: Final = str.maketrans({"’": "'", "＇": "'"})


class AnalyzerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an analyzer does; saved with the index.

    `stemmer` is "none" or a PyStemmer algorithm ("porter" is the classic one, "english" Porter 2,
    "german", ...). With `cjk_bigrams` off, scripts without spaces are indexed by single clusters.
    """

    stemmer: str = "porter"
    stopwords: Literal["english", "none"] = "english"
    cjk_bigrams: bool = True
    fold_accents: bool = True


class Token(msgspec.Struct, frozen=True, gc=False):
    """One term and where it stands in the original text: [start, end) in code points."""

    term: str
    start: int
    end: int


class _Reading(NamedTuple):
    """A text's terms and where their tokens start and end."""

    terms: tuple[str, ...]
    starts: array[int]
    ends: array[int]


def _reading_bytes(text: str, reading: _Reading) -> int:
    """About what remembering it takes; its terms are the memo's strings."""
    return 4 * len(text) + 24 * len(reading.terms) + 400


class Analyzer:
    """Turns text into terms. Safe to share between threads; pickles by its configuration.

    Raises `UsageError` on an unknown stemmer.
    """

    def __init__(self, config: AnalyzerConfig | None = None) -> None:
        self.config = config or AnalyzerConfig()
        self._memo = _Memo(self.config)
        self._read = BoundedCache[str, _Reading](_READ_BYTES, _reading_bytes)

    def __reduce__(self) -> tuple[type[Analyzer], tuple[AnalyzerConfig]]:
        return Analyzer, (self.config,)

    def fingerprint(self) -> str:
        """SHA-256 of the configuration and the algorithm's version: equal means equal terms."""
        made_of = msgspec.json.encode([ALGORITHM_VERSION, self.config], order="sorted")
        return hashlib.sha256(made_of).hexdigest()

    def terms(self, text: str) -> list[str]:
        """Index terms of `text` in order; equals `[t.term for t in tokens(text)]`, but fast."""
        memo = self._memo
        if text.isascii():
            return [term for word in _ASCII_TOKEN.findall(text) if (term := memo[word])]
        if not MAYBE_UNSPACED.search(text):
            return [term for word in _SPACED_TOKEN.findall(text) if (term := memo[word])]
        return [term for term, _, _ in self._scan(text) if term]

    def tokens(self, text: str) -> list[Token]:
        """Index terms of `text` with their places."""
        return [Token(term, start, end) for term, start, end in self._scan(text) if term]

    def places(self, text: str, terms: Container[str]) -> list[Token]:
        """Those of the text's tokens whose terms are among `terms`, which are not empty.

        A text's tokens are remembered: who shows the hits of many queries shows some again.
        """
        read = self._read.get(text)
        if read is None:
            read = self._reading(text)
            self._read.put(text, read)
        return [
            Token(term, read.starts[place], read.ends[place])
            for place, term in enumerate(read.terms)
            if term in terms
        ]

    def _reading(self, text: str) -> _Reading:
        memo = self._memo
        if MAYBE_UNSPACED.search(text):
            found = list(self._scan(text))
        else:
            pattern = _ASCII_TOKEN if text.isascii() else _SPACED_TOKEN
            found = [(memo[match[0]], *match.span()) for match in pattern.finditer(text)]
        kept = [token for token in found if token[0]]
        terms, starts, ends = zip(*kept, strict=True) if kept else ((), (), ())
        return _Reading(terms, array("L", starts), array("L", ends))

    def _scan(self, text: str) -> Iterator[tuple[str, int, int]]:
        memo = self._memo
        for match in _TOKEN.finditer(text):
            start, end = match.span()
            if match.lastgroup == "unspaced":
                yield from self._scan_unspaced(text, start, end)
            else:
                yield memo[match[0]], start, end

    def _scan_unspaced(self, text: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Overlapping pairs of grapheme clusters of text[start:end], or single ones."""
        step = 2 if self.config.cjk_bigrams else 1
        if _PLAIN.fullmatch(text, start, end):
            last = max(start, end - step)
            for at in range(start, last + 1):
                right = min(at + step, end)
                yield text[at:right], at, right
            return
        edges = [start, *(cluster.end() for cluster in _CLUSTER.finditer(text, start, end))]
        step = min(step, len(edges) - 1)
        for left, right in zip(edges, edges[step:], strict=False):
            yield self._memo[text[left:right]], left, right


class _Memo(dict[str, str]):
    """Surface form to term ("" when it is dropped), bounded: emptied when full."""

    def __init__(self, config: AnalyzerConfig) -> None:
        self._config = config
        self._stop = ENGLISH_STOP_WORDS if config.stopwords == "english" else frozenset[str]()
        self._lock = threading.Lock()  # a PyStemmer object must not be used by two threads
        self._stemmer = _load_stemmer(config.stemmer)

    def __missing__(self, surface: str) -> str:
        term = self._to_term(surface)
        if len(surface) <= MAX_TERM_CHARS:
            if len(self) >= _MEMO_ENTRIES:
                self.clear()
            self[surface] = term
        return term

    def _to_term(self, surface: str) -> str:
        folded = _fold(surface, fold_accents=self._config.fold_accents)
        if folded in self._stop:
            return ""
        if len(folded) > MAX_TERM_CHARS:
            return folded[:48] + hashlib.sha256(folded.encode()).hexdigest()[:16]
        if self._stemmer is None:
            return folded
        with self._lock:
            return str(self._stemmer.stemWord(folded))


def _fold(surface: str, *, fold_accents: bool) -> str:
    """Normalise one token's spelling."""
    if surface.isascii():
        folded = surface.lower()
    else:
        folded = unicodedata.normalize("NFKC", surface).casefold().translate(_APOSTROPHES)
        folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", folded) or folded)
        if fold_accents:
            bare = _ACCENTS.sub(r"\1", unicodedata.normalize("NFD", folded))
            folded = unicodedata.normalize("NFC", bare)
    folded = folded.removesuffix("'s")
    if "." in folded and not any(ch.isdecimal() for ch in folded):
        folded = folded.replace(".", "")  # an acronym; a decimal point keeps its place
    return folded


def _load_stemmer(name: str) -> Stemmer.Stemmer | None:
    if name == "none":
        return None
    if name not in Stemmer.algorithms(aliases=True):
        known = ", ".join(Stemmer.algorithms())
        raise UsageError(f"unknown stemmer {name!r}; use none or one of: {known}")
    return Stemmer.Stemmer(name, 0)  # no cache of its own: the memo above is the cache

"""What can be asked of the compressor, and what comes back: `/v1/compress`, the CLI and Python."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rag.search import Query

MAX_TEXT_CHARS = 4_000_000
MAX_HITS = 1_000
MAX_TOKENS = 10_000_000

Share = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
ForceToken = Annotated[str, Meta(min_length=1, max_length=64)]


class Compression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is kept, and what decides.

    Tokens are the generator's: `rate` is the share of them that is kept, `target_tokens` their
    number, which counts instead of the rate. Without `strict` words that must be kept may pass it;
    with `strict` nothing does. `threshold` is one for all texts together, or each text's own.

    `passages`, `sentences` and `words` switch the three parts: the passages' scores, the
    sentences' relevance for the question, the token classifier. Without `words` it runs where no
    question weighs the sentences: with one it was measured to add nothing. `word_score` says what
    a word of several tokens scores: their mean, or the first.

    Always kept: `force_tokens`, with `keep_digits` every word with a digit, with `keep_citations`
    numbers in square brackets, with `keep_code` what stands between backquotes. With
    `drop_consecutive` a force token goes where nothing was kept since the same one before. Each
    text keeps at least `min_tokens`.
    """

    rate: Share = 0.5
    target_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None
    strict: bool = False
    threshold: Literal["global", "text"] = "global"
    passages: bool = True
    sentences: bool = True
    words: bool | None = None
    word_score: Literal["mean", "first"] = "mean"
    force_tokens: Annotated[list[ForceToken], Meta(max_length=100)] = []
    keep_digits: bool = False
    keep_citations: bool = False
    keep_code: bool = False
    drop_consecutive: bool = False
    min_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] = 0


class Passage(msgspec.Struct, frozen=True):
    """A text to compress, such as a hit of a search; other fields of a hit are ignored.

    Texts with a higher `score` keep more.
    """

    text: Text
    id: str = ""
    title: Text = ""
    score: float = 0.0


class Protected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`text[start:end]` of the text number `hit` must be kept; offsets in code points."""

    start: Annotated[int, Meta(ge=0)]
    end: Annotated[int, Meta(ge=0)]
    hit: Annotated[int, Meta(ge=0)] = 0


class CompressRequest(Compression, frozen=True, forbid_unknown_fields=True):
    """One `text`, or `hits` as a search returns them; a `query` says what they are read for.

    With `explain` every word comes back with its score.
    """

    text: Text = ""
    hits: Annotated[list[Passage], Meta(max_length=MAX_HITS)] = []
    query: Query = ""
    protected: Annotated[list[Protected], Meta(max_length=10_000)] = []
    explain: bool = False
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None


class KeptSpan(msgspec.Struct, frozen=True):
    """`text[start:end]` of the reply is `text[source_start:source_end]` of the hit `hit`."""

    start: int
    end: int
    source_start: int
    source_end: int
    hit: int = 0


class CompressedHit(msgspec.Struct, frozen=True):
    """One text: `text[start:end]` of the reply is what is left of it."""

    id: str
    start: int
    end: int
    original_tokens: int
    kept_tokens: int


class WordScore(msgspec.Struct, frozen=True):
    """A word of the source, what it scored, and whether it was kept.

    `preserve` is the token classifier's probability, `relevance` its sentence's share of the
    question; None where that part did not run.
    """

    start: int
    end: int
    kept: bool
    preserve: float | None = None
    relevance: float | None = None
    hit: int = 0


class CompressResponse(msgspec.Struct, frozen=True):
    """What is left, and where every stretch of it stood.

    `ratio` is tokens before over tokens after, null when nothing is left. Texts are parted by
    blank lines. `by` names the parts that decided.
    """

    request_id: str
    text: str
    ratio: float | None
    spans: list[KeptSpan]
    hits: list[CompressedHit]
    original_tokens: int
    kept_tokens: int
    dropped_tokens: int
    by: list[str]
    words: list[WordScore] = []
    timings_ms: dict[str, float] = {}
    warnings: list[str] = []

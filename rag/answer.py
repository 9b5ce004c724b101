"""The answer request and the cited answer: the schema of `/v1/answer`, of the CLI and of Python."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from indexes.filters import Filter
from rag.compress.compression import Compression
from rag.generate.faithful import PATTERN
from rag.search import Fusion, Hit, Name, Query, RetrieverChoice

MAX_DRAFT_TOKENS = 10
"""The longest draft, gamma in the papers."""

DrafterName = Literal["none", "lookup", "suffix", "recycle", "rapid", "auto"]
VerifierName = Literal["lossless", "rapid_exact", "rapid_paper", "ensemble"]
DecodeMode = Literal["free", "momentum", "extract", "auto"]

_ONE_MONITOR = r"[a-z][a-z0-9_-]{0,31}"


class Grammar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language that the whole text is held to; exactly one of the three is given."""

    json_schema: dict[str, Any] | None = None
    regex: Annotated[str, Meta(min_length=1, max_length=10_000)] | None = None
    lark: Annotated[str, Meta(min_length=1, max_length=100_000)] | None = None


class Decode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens are chosen. `temperature` 0 is greedy; a `seed` makes sampling repeatable.

    `drafter` guesses tokens ahead, `draft_tokens` at a time; without a number it is chosen online
    from measured times, 0 included. lookup, suffix, recycle and auto change neither the text nor
    what a seed gives. With rapid a seed repeats a run only for the same fixed `draft_tokens`.
    `verifier` and `eta` belong to rapid, `target_weight` to its verifier ensemble.

    `faithful` holds the text to its evidence: off, cad:0.5, adacad, cfb:5 (see
    `rag.generate.faithful`); `plausibility` forbids tokens below that share of the best one.
    `monitors` forbid what the evidence does not bear out (citation, quote, numbers, names), and
    `grammar` all but its own language; where both leave nothing, the grammar is right. `mode`
    momentum does not loop, and extract answers with the most probable stretch of the evidence.
    With `trace` the report says every token's alpha.
    """

    max_tokens: Annotated[int, Meta(ge=1, le=4096)] = 128
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    stop: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=8)
    ] = []
    drafter: DrafterName = "auto"
    draft_tokens: Annotated[int, Meta(ge=0, le=MAX_DRAFT_TOKENS)] | None = None
    verifier: VerifierName | None = None
    eta: Annotated[float, Meta(ge=0, le=100)] | None = None
    target_weight: Annotated[float, Meta(ge=0, le=1)] = 0.5
    faithful: Annotated[str, Meta(pattern=PATTERN)] = "off"
    plausibility: Annotated[float, Meta(ge=0, le=1)] = 0.0
    monitors: Annotated[
        list[Annotated[str, Meta(pattern=f"^{_ONE_MONITOR}$")]], Meta(max_length=8)
    ] = []
    grammar: Grammar | None = None
    mode: DecodeMode = "free"
    trace: bool = False


class AnswerRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question for an index. `limit` is how many hits are shown to the model.

    With `compress` the model reads them shortened; citations point into their full texts. With
    `locate` the sentence of each that answers the likeliest is highlighted, spared by compression
    and the first choice of citations.
    """

    index: Name
    query: Query
    limit: Annotated[int, Meta(ge=1, le=50)] = 3
    retrievers: Annotated[list[RetrieverChoice], Meta(max_length=16)] = []
    fusion: Fusion = Fusion()
    filter: Filter | None = None
    compress: Compression | None = None
    locate: bool = False
    decode: Decode = Decode()
    min_evidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None


class Citation(msgspec.Struct, frozen=True):
    """`answer[start:end]` is supported by `text[source_start:source_end]` of the hit `hit_id`."""

    start: int
    end: int
    hit_id: str
    source_start: int
    source_end: int


class Usage(msgspec.Struct, frozen=True):
    """Tokens of the generator's own tokenizer.

    The model read `compressed_tokens`; without compression they would have been `prompt_tokens`.
    """

    prompt_tokens: int = 0
    compressed_tokens: int = 0
    completion_tokens: int = 0


class DecodeReport(msgspec.Struct, frozen=True):
    """What decoding did: drafted and accepted tokens, their ratio `alpha`, monitors in force.

    `gamma` is the mean length of the drafts, over all steps after the first token.
    `contrast_alpha` is the mean weight of the evidence's contrast, `contrast_alphas` that of every
    token when a trace was asked for. `masked` tokens were chosen among fewer than all, after
    `suggestions` sets of suggestions. `mode` is what was done where `auto` was asked.
    """

    drafter: str = "none"
    drafted: int = 0
    accepted: int = 0
    alpha: float | None = None
    gamma: float | None = None
    monitors: list[str] = []
    mode: Literal["free", "momentum", "extract"] = "free"
    faithful: str = "off"
    contrast_alpha: float | None = None
    contrast_alphas: list[float] = []
    masked: int = 0
    suggestions: int = 0
    finish_reason: Literal["stop", "length", "cancelled", "not_called"] = "stop"
    first_token_ms: float | None = None
    tokens_per_s: float | None = None


class AnswerResponse(msgspec.Struct, frozen=True):
    """An answer with its evidence; with `no_evidence` the model was not called."""

    request_id: str
    index: str
    index_version: int
    status: Literal["ok", "no_evidence"]
    answer: str
    citations: list[Citation]
    evidence: list[Hit]
    usage: Usage
    decode: DecodeReport
    timings_ms: dict[str, float]
    truncated: bool = False
    warnings: list[str] = []

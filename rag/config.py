"""The one configuration object: flag > `RAG_*` environment > TOML file > default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs
from msgspec import Meta

from indexes.errors import UsageError
from rag.models.torch_runtime import Precision

ENV_PREFIX = "RAG_"


def _default_root() -> Path:
    return platformdirs.user_data_path("evident") / "indexes"


def _default_cache() -> Path:
    return platformdirs.user_cache_path("evident")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in force for one process.

    `root` holds the indexes, `cache` the models. `n_threads` 0 means as many as there are cores.
    `compressor` is the token classifier of prompt compression: a model's name or folder, or none;
    `sentence_scorer` is what scores sentences there for the question beside their words: `locator`,
    a dense retriever (minilm), or none.
    `locator` is the GeAR model that points at sentences.
    `backend` runs the generator: `auto` is int8 (our compiled loops) on a CPU, torch elsewhere;
    int4 and fp32 run in onnxruntime.
    `encode_precision` is what dense and duplex encoders and the token classifier compute in:
    `int16` is fixed point (on CPUs with AVX2, else `float32`), up to four times as fast at vectors
    that differ by some 1e-4; `bfloat16` differs by more, on processors that compute it, and `int8`
    is in bytes, coarser still.
    `prefix_cache_mb` is what beginnings of prompts may take, so that they are not read twice;
    `result_cache_mb` bounds the responses of searches, `encoding_cache_mb` the vectors of queries
    and `passage_cache_mb` the texts of passages that are kept; 0 keeps none.
    The server reads `host`, `port`, `workers` (processes), `log_format` and what begins with
    `max_`; with `require_keys` it asks for a key even before the first was made. Builds over REST
    may read what is in `inputs`.
    """

    root: Path = msgspec.field(default_factory=_default_root)
    cache: Path = msgspec.field(default_factory=_default_cache)
    generator: str = "smollm2-135m-instruct"
    compressor: str = "llmlingua2"
    locator: str = "gear"
    sentence_scorer: str = "locator"
    device: str = "cpu"
    backend: Literal["auto", "int8", "int4", "fp32", "torch"] = "auto"
    prefix_cache_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 256
    result_cache_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 32
    encoding_cache_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 32
    passage_cache_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    n_threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    encode_precision: Precision = "int16"
    encode_batch_tokens: Annotated[int, Meta(ge=64, le=1_000_000)] = 4096
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 4 * 1024 * 1024
    max_concurrency: Annotated[int, Meta(ge=1, le=256)] = 16
    max_searches: Annotated[int, Meta(ge=1, le=256)] = 8
    max_queue: Annotated[int, Meta(ge=0, le=100_000)] = 64
    max_search_queue: Annotated[int, Meta(ge=0, le=100_000)] = 128
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    log_format: Literal["text", "json"] = "text"
    require_keys: bool = False
    inputs: Path | None = None


FIELDS = tuple(field.name for field in msgspec.structs.fields(Settings))


def load_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None
) -> Settings:
    """Merge the layers. `flags` with value None count as not given.

    Raises `UsageError` naming the layer and the key: unknown keys and wrong types are errors.
    """
    merged: dict[str, Any] = {}
    if file is not None:
        merged |= _checked(_read_toml(file), f"configuration file {file}", strict=True)
    merged |= _checked(_from_environment(environ), "environment", strict=False)
    merged |= _checked({k: v for k, v in flags.items() if v is not None}, "flags", strict=False)
    settings = Settings(**merged)
    return msgspec.structs.replace(
        settings,
        root=settings.root.expanduser(),
        cache=settings.cache.expanduser(),
        inputs=None if settings.inputs is None else settings.inputs.expanduser(),
    )


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration file {file} is not valid TOML: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        key.removeprefix(ENV_PREFIX).lower(): value
        for key, value in environ.items()
        if key.startswith(ENV_PREFIX)
    }


def _decode(kind: type, value: Any) -> Any:
    if kind is not Path or not isinstance(value, str | Path):
        raise TypeError(f"Expected `{kind.__name__}`, got {value!r}")
    return Path(value)


def _checked(layer: Mapping[str, Any], origin: str, *, strict: bool) -> dict[str, Any]:
    """The layer with its values converted to the types of `Settings`."""
    try:
        converted = msgspec.convert(dict(layer), Settings, strict=strict, dec_hook=_decode)
    except msgspec.ValidationError as error:
        known = ", ".join(FIELDS)
        raise UsageError(f"{origin}: {error} (known settings: {known})") from error
    return {key: getattr(converted, key) for key in layer}

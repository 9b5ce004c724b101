"""How a dense-lexical encoder lies in its folder: ours, or as RetroMAE, DupMAE and BGE publish.

Ours holds only what was trained: `config.json` names the encoder that the rest is taken from and
its digest, one safetensors file has the upper layers, the head and the projection. A published
one is a BERT with a masked-LM head (RetroMAE, DupMAE) or without one (BGE and other fine-tuned
encoders): from such a folder only [CLS] can be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from indexes.errors import Conflict, ModelError, Unsupported
from rag.models.resolver import ResolvedModel, resolve
from rag.models.safety import read_object

DUPLEX = "DuplexOverBert"
"""The architecture that our folder's `config.json` names."""

MAX_TOKENS = 256

Pooling = Literal["cls", "mean"]


class DuplexConfig(msgspec.Struct, frozen=True):
    """`config.json` of our folder, and what a published one is read as.

    The lowest `n_shared_layers` of `base` are used as they are. `dimension` components make the
    dense vector, 0: [CLS] as it is. `dense_scale` weighs the dense product against the lexical one;
    `doc_terms` and `query_terms` are the heaviest terms that are kept. With `unit_query` a query's
    lexical weights are scaled to unit length, so that long questions weigh both parts as short
    ones do. `pooling` is what the dense vector is made of: [CLS], or the mean over all tokens where
    the base is an encoder trained for that. `literal` says that there is a gate for the text's own
    tokens.
    """

    base: str
    base_sha256: str
    n_shared_layers: int
    dimension: int
    pooling: Pooling = "cls"
    dense_scale: float = 1.0
    normalised: bool = True
    unit_query: bool = True
    literal: bool = False
    doc_terms: Annotated[int, Meta(ge=1)] = 192
    query_terms: Annotated[int, Meta(ge=1)] = 64
    max_tokens: Annotated[int, Meta(ge=8)] = MAX_TOKENS
    architectures: tuple[str, ...] = (DUPLEX,)


class DuplexLayout(msgspec.Struct, frozen=True):
    """Where things are: the encoder's folder, and the folder of what was trained.

    `head` is `own` for our folder, `masked` for a published masked LM, `none` where there is none.
    """

    config: DuplexConfig
    encoder: Path
    trained: Path
    head: Literal["own", "masked", "none"]
    query_prompt: str = ""
    passage_prompt: str = ""


def is_duplex(folder: Path) -> bool:
    """Whether a folder is ours."""
    return DUPLEX in _architectures(folder)


def read_duplex(model: ResolvedModel, cache: Path) -> DuplexLayout:
    """Read what a model's folder is.

    Raises `ModelError` for damage, `Conflict` for another base, `Unsupported` for what is no BERT.
    """
    if is_duplex(model.folder):
        return _ours(model, cache)
    heads = " ".join(_architectures(model.folder))
    if "Bert" not in heads:
        raise Unsupported(f"{model.name} is no BERT encoder: {heads or 'no architecture is named'}")
    masked = "ForMaskedLM" in heads or "ForPreTraining" in heads
    prompts = dict(
        (read_object(model.folder / "config_sentence_transformers.json") or {}).get("prompts") or {}
    )
    return DuplexLayout(
        config=DuplexConfig(
            base=model.name,
            base_sha256=model.sha256,
            n_shared_layers=0,
            dimension=0,
            pooling=_pooling(model.folder),
            normalised=_normalises(model.folder),
            unit_query=False,
            max_tokens=_max_tokens(model.folder),
        ),
        encoder=model.folder,
        trained=model.folder,
        head="masked" if masked else "none",
        query_prompt=str(prompts.get("query", "")),
        passage_prompt=str(prompts.get("document", prompts.get("passage", ""))),
    )


def _ours(model: ResolvedModel, cache: Path) -> DuplexLayout:
    content = (model.folder / "config.json").read_bytes()
    try:
        config = msgspec.json.decode(content, type=DuplexConfig)
    except msgspec.ValidationError as error:
        raise ModelError(f"{model.name}: config.json: {error}") from error
    base = resolve(config.base, cache)
    if base.sha256 != config.base_sha256:
        raise Conflict(
            f"{model.name} goes on top of {config.base} {config.base_sha256[:12]}, "
            f"but {base.sha256[:12]} is here"
        )
    return DuplexLayout(config, base.folder, model.folder, "own")


def _architectures(folder: Path) -> list[str]:
    config = read_object(folder / "config.json") or {}
    return [str(name) for name in config.get("architectures") or ()]


def _normalises(folder: Path) -> bool:
    """Whether the folder's sentence-transformers modules end in a normalisation."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return False
    steps = msgspec.json.decode(listing.read_bytes(), type=list[dict[str, Any]])
    return any(str(step.get("type", "")).endswith("Normalize") for step in steps)


def _pooling(folder: Path) -> Pooling:
    """What the folder's sentence-transformers pooling says; without one, [CLS] as published."""
    for file in sorted(folder.glob("*_Pooling/config.json")):
        if (read_object(file) or {}).get("pooling_mode_mean_tokens"):
            return "mean"
    return "cls"


def _max_tokens(folder: Path) -> int:
    limit = (read_object(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    return min(MAX_TOKENS, int(limit)) if limit else MAX_TOKENS

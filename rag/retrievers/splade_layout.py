"""How published SPLADE checkpoints lie in their folders.

Three ways: a transformers masked-LM folder (naver/splade*, prithivida/Splade_PP*, granite sparse),
perhaps with a table of query weights beside it (opensearch-neural-sparse-encoding-doc-*); a
sentence-transformers `SparseEncoder`, whose `modules.json` lists a model and a `SpladePooling`; and
the same with a `Router`, one list of modules for queries and one for documents. A causal
language model's folder is read as Echo-SPLADE.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from indexes.errors import ModelError, UnsafeModel, Unsupported
from rag.models.safety import read_object
from rag.retrievers.max_pooling import Activation, Pooling

Head = Literal["masked", "causal", "none"]
TABLES = ("idf.json", "query_token_weights.txt")
"""Files that hold a weight for each token of an inference-free query."""

LIMITS = ("sentence_bert_config.json", "tokenizer_config.json")
UNLIMITED = 1_000_000
"""Tokenisers without a limit say a huge number."""


class Side(msgspec.Struct, frozen=True):
    """What encodes one side. `table` is a file or a folder of query weights; no model then runs."""

    folder: Path | None
    head: Head = "none"
    pooling: Pooling = "max"
    activation: Activation = "relu"
    table: Path | None = None


class SpladeLayout(msgspec.Struct, frozen=True):
    """What a checkpoint's folder says: its two sides, its limit in tokens, its prompts."""

    documents: Side
    queries: Side
    max_tokens: int | None = None
    query_prompt: str = ""
    passage_prompt: str = ""


class _Step(msgspec.Struct, frozen=True):
    """One module of a sentence-transformers model: its class's name and its folder."""

    kind: str
    folder: Path


def read_layout(folder: Path) -> SpladeLayout:
    """Read what there is. Raises `ModelError` for a folder that holds no such model."""
    routes = _routes(folder)
    if routes is None:
        documents = Side(folder, head_of(folder))
        queries = msgspec.structs.replace(documents, table=_table(folder))
    else:
        documents = _side(routes["document"])
        queries = _side(routes["query"])
    if documents.folder is None:
        raise ModelError(f"{folder.name} has no model for documents")
    prompts = _prompts(folder)
    return SpladeLayout(
        documents=documents,
        queries=queries,
        max_tokens=_max_tokens(documents.folder),
        query_prompt=prompts.get("query", ""),
        passage_prompt=prompts.get("document", prompts.get("passage", "")),
    )


def head_of(folder: Path) -> Head:
    """What the configuration says that the model's head predicts."""
    config = read_object(folder / "config.json") or {}
    if config.get("auto_map"):
        raise UnsafeModel(f"{folder.name} wants to run Python code of its own: never done")
    heads = " ".join(str(name) for name in config.get("architectures") or ())
    if "ForMaskedLM" in heads:
        return "masked"
    return "causal" if "ForCausalLM" in heads or "LMHeadModel" in heads else "none"


def is_splade(folder: Path) -> bool:
    """Whether a model's folder is a sparse encoder; other masked LMs count as one too.

    A sentence-transformers folder without `SpladePooling` is a dense one whatever its head.
    """
    try:
        routes = _routes(folder)
    except Unsupported:
        return False
    if routes is None:
        return not (folder / "modules.json").exists() and head_of(folder) == "masked"
    return any(step.kind == "SpladePooling" for step in routes["document"])


def _routes(folder: Path) -> dict[str, list[_Step]] | None:
    """Modules of each side; None where the folder is not of sentence-transformers' making."""
    listing = folder / "modules.json"
    if not listing.exists():
        return None
    try:
        rows = msgspec.json.decode(listing.read_bytes(), type=list[dict[str, Any]])
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{listing} is not readable: {error}") from error
    steps = [_Step(_class_name(row.get("type")), folder / str(row.get("path", ""))) for row in rows]
    if not any(step.kind in ("Router", "Asym") for step in steps):
        return {"query": steps, "document": steps}
    router = next(step.folder for step in steps if step.kind in ("Router", "Asym"))
    config = read_object(router / "router_config.json") or {}
    types, structure = dict(config.get("types") or {}), dict(config.get("structure") or {})
    if not {"query", "document"} <= set(structure):
        raise Unsupported(f"{folder.name}: its router has no routes `query` and `document`")
    return {
        route: [_Step(_class_name(types.get(name)), router / str(name)) for name in names]
        for route, names in structure.items()
    }


def _side(steps: Sequence[_Step]) -> Side:
    """A model and its pooling, or a table."""
    side = Side(None)
    for step in steps:
        if step.kind in ("MLMTransformer", "Transformer"):
            side = msgspec.structs.replace(side, folder=step.folder, head=head_of(step.folder))
        elif step.kind == "SpladePooling":
            config = read_object(step.folder / "config.json") or {}
            side = msgspec.structs.replace(
                side,
                pooling=config.get("pooling_strategy", "max"),
                activation=config.get("activation_function", "relu"),
            )
        elif step.kind == "SparseStaticEmbedding":
            side = msgspec.structs.replace(side, table=_static_table(step.folder))
        else:
            raise Unsupported(f"a sparse encoder with a {step.kind} module cannot be loaded")
    return side


def _static_table(folder: Path) -> Path:
    """Where a `SparseStaticEmbedding` keeps its weights: beside it, or in a table it names."""
    named = (read_object(folder / "config.json") or {}).get("path")
    places = [folder, folder.parent] if named else []
    found = [place / Path(str(named)).name for place in places]
    return next((path for path in found if path.is_file()), folder)


def _table(folder: Path) -> Path | None:
    return next((folder / name for name in TABLES if (folder / name).is_file()), None)


def _max_tokens(folder: Path) -> int | None:
    """The smallest limit that the folder's files state."""
    limits = []
    for name in LIMITS:
        config = read_object(folder / name) or {}
        limits += [config.get("max_seq_length"), config.get("model_max_length")]
    stated = [int(limit) for limit in limits if limit and limit < UNLIMITED]
    return min(stated, default=None)


def _prompts(folder: Path) -> dict[str, str]:
    config = read_object(folder / "config_sentence_transformers.json") or {}
    return {str(key): str(text) for key, text in dict(config.get("prompts") or {}).items()}


def _class_name(path: Any) -> str:
    return str(path).rpartition(".")[2]

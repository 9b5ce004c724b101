"""What a sentence-transformers folder says of its encoder, read without that library.

Importing it takes some seconds and a few hundred megabytes; for a plain BERT whose states are
averaged, our own layers compute the same, so nothing of it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import Unsupported
from rag.models.safety import read_object

MEAN_MODULES = ("Transformer", "Pooling", "Normalize")
"""The sentence-transformers modules of an encoder whose embedding is the mean of all states."""


class DenseLayout(msgspec.Struct, frozen=True):
    """How texts are read: at most `max_tokens`, after a prompt; vectors have `dimension` parts."""

    max_tokens: int
    dimension: int
    query_prompt: str
    passage_prompt: str


def mean_layout(folder: Path) -> DenseLayout | None:
    """Of a plain BERT whose embedding is the mean of its states; None for every other folder.

    None too where the folder does not say how long a text may be, or damaged settings: the library
    has rules and errors for those.
    """
    from rag.models.bert_layers import bert_shape

    try:
        averages = _averages(folder)
        shape = bert_shape(folder)
    except (Unsupported, msgspec.DecodeError):
        return None
    limit = (read_object(folder / "sentence_bert_config.json") or {}).get("max_seq_length")
    if not averages or not isinstance(limit, int):
        return None
    query_prompt, passage_prompt = prompts_of(
        (read_object(folder / "config_sentence_transformers.json") or {}).get("prompts") or {}
    )
    return DenseLayout(
        min(limit, shape.max_position_embeddings), shape.hidden_size, query_prompt, passage_prompt
    )


def prompts_of(prompts: dict[str, str]) -> tuple[str, str]:
    """What goes before a query and before a passage."""
    return prompts.get("query", ""), prompts.get("document", prompts.get("passage", ""))


def _averages(folder: Path) -> bool:
    """Whether the folder's modules are an encoder, the mean over its states, a normalisation."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return False
    steps = msgspec.json.decode(listing.read_bytes(), type=list[dict[str, Any]])
    kinds = tuple(str(step.get("type", "")).rpartition(".")[2] for step in steps)
    if kinds != MEAN_MODULES:
        return False
    pooling = read_object(folder / str(steps[1].get("path", "")) / "config.json") or {}
    modes = {name for name, on in pooling.items() if name.startswith("pooling_mode_") and on}
    return modes == {"pooling_mode_mean_tokens"}

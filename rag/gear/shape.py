"""What a GeAR folder says of itself: its base, which layers are its own, and how it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from indexes.errors import ModelError

ARCHITECTURE = "GearModel"

Layer = Annotated[int, Meta(ge=1, le=48)]
Aggregation = Literal["attention", "reader"]


class GearShape(msgspec.Struct, frozen=True):
    """`config.json` of a GeAR folder, which holds what differs from the encoder `base`.

    The lowest `n_shared` layers are the base's own. Cross-attention looks at documents as they are
    after `memory_layer` layers, at least those; 0 is the last. Sentences are scored from the
    cross-attention of the fusion layers `locate_layers`, counted from 1 (`aggregation` attention,
    the paper's way), or by the trained reader of all layers. Documents are read in windows of
    `max_tokens`, questions up to `max_question_tokens`, special tokens included.
    """

    base: str
    base_sha256: str
    n_shared: int = 4
    memory_layer: Annotated[int, Meta(ge=0, le=48)] = 0
    n_decoder_layers: int = 2
    decoder_inner: int = 768
    locate_layers: tuple[Layer, ...] = (5,)
    aggregation: Aggregation = "attention"
    max_tokens: Annotated[int, Meta(ge=16, le=512)] = 256
    max_question_tokens: Annotated[int, Meta(ge=8, le=512)] = 64
    architectures: tuple[str, ...] = (ARCHITECTURE,)


def read_shape(folder: Path) -> GearShape:
    """The shape of a folder. Raises `ModelError` when it holds no GeAR model."""
    path = folder / "config.json"
    try:
        shape = msgspec.json.decode(path.read_bytes(), type=GearShape)
    except OSError as error:
        raise ModelError(f"{folder.name}: config.json cannot be read: {error}") from error
    except msgspec.DecodeError as error:
        raise ModelError(f"{folder.name} is no GeAR model: {error}") from error
    if ARCHITECTURE not in shape.architectures:
        raise ModelError(f"{folder.name} is no GeAR model but {', '.join(shape.architectures)}")
    return shape


def is_gear(folder: Path) -> bool:
    """Whether a model's folder holds GeAR."""
    try:
        read_shape(folder)
    except ModelError:
        return False
    return True

"""What a gear recipe says."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rag.train.pairs import PairSource
from rag.train.recipe import Count, LoopConfig, Share

Weight = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]


class SynthesisConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Questions made from sentences of plain passages: `file` of `{source, text}` lines.

    Only passages of these `sources` are read, at most `n_passages` of them, one question each.
    """

    file: str
    sources: tuple[str, ...]
    n_passages: Count = 10_000
    weight: Positive = 1.0


class GearModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parts over the frozen base: see `rag.gear.shape.GearShape`."""

    n_shared: Annotated[int, Meta(ge=0)] = 4
    memory_layer: Annotated[int, Meta(ge=0)] = 0
    n_decoder_layers: Count = 2
    decoder_inner: Count = 768
    locate_layers: tuple[Count, ...] = (5,)
    max_tokens: Annotated[int, Meta(ge=16, le=512)] = 256
    max_question_tokens: Annotated[int, Meta(ge=8, le=512)] = 64


class GearLossConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """contrastive · L_CL + alpha · L_LM + attention · L_attention + reader · L_reader.

    L_CL and L_LM are the paper's. L_attention = −log of the share that the sentences with the
    answer get of the attention of the model's `locate_layers`; L_reader the same of the reader's
    scores. `n_negatives` mined documents go with each question, encoded by the momentum encoder,
    as are the `queue` documents before. Documents are cut to windows of `max_tokens`, generated
    sentences to `max_words` tokens; the share `sentences` of the questions generates theirs.
    """

    contrastive: Weight = 1.0
    alpha: Weight = 0.25
    attention: Weight = 0.5
    reader: Weight = 0.5
    temperature: Positive = 0.05
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.995
    queue: Annotated[int, Meta(ge=0)] = 1024
    n_negatives: Annotated[int, Meta(ge=0)] = 1
    max_tokens: Annotated[int, Meta(ge=16, le=512)] = 224
    max_words: Annotated[int, Meta(ge=4)] = 40
    sentences: Share = 0.5


class GearHeldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to measure on: of each set about `share` of the questions, at most `n_queries`.

    Questions are located in their own document and retrieved among the documents that were mined
    for any of them, `depth` for each.
    """

    share: Share = 0.05
    n_queries: Count = 100
    depth: Count = 4


class GearRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe: encoder `base`, as it is resolved, gets what GeAR adds.

    `data` has questions with answers; `synthesis` makes more. `avoid` names judgements
    (`FOLDER/qrels/SPLIT.tsv`) measured on later: their questions and paragraphs are not trained
    on.
    """

    base: str
    data: tuple[PairSource, ...]
    loop: LoopConfig
    model: GearModelConfig = GearModelConfig()
    loss: GearLossConfig = GearLossConfig()
    synthesis: SynthesisConfig | None = None
    held_out: GearHeldOut = GearHeldOut()
    avoid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data: give at least one set")
        names = [one.name for one in self.data]
        if len(set(names)) != len(names):
            raise ValueError("data: two sets have one name")

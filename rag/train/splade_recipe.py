"""What a SPLADE recipe says."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rag.train.candidates import MiningConfig
from rag.train.pairs import PairSource
from rag.train.recipe import Count, LoopConfig, Share

Weight = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]


class SpladeLossConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The loss: contrastive · InfoNCE + margin · MarginMSE + kl · KL + λ_q · R_q + λ_d · R_d.

    `n_negatives` mined ones go with each question; the other questions' documents are its
    negatives too in InfoNCE. The teacher's scores are multiplied by `teacher_scale` to be as far
    apart as the student's. Texts are cut after `max_tokens`. λ rises over the first `ramp` of the
    steps. Documents are regularised by FLOPS, queries by FLOPS or L1.
    """

    n_negatives: Count = 7
    max_tokens: Annotated[int, Meta(ge=8, le=8192)] = 128
    contrastive: Weight = 1.0
    margin: Weight = 0.05
    kl: Weight = 1.0
    temperature: Positive = 1.0
    teacher_scale: Positive = 1.0
    query_regulariser: Literal["flops", "l1"] = "flops"
    lambda_query: Weight = 1e-3
    lambda_document: Weight = 1e-3
    ramp: Share = 0.33
    anti_zero: Weight = 1.0
    dropout: bool = False


class LowRankConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """LoRA (Hu et al. 2021) of every projection inside the decoder's layers."""

    rank: Count = 16
    alpha: Positive = 8.0
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.1


class AdaptationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The phase before: language modelling on the documents, `max_tokens` of each."""

    loop: LoopConfig
    max_tokens: Annotated[int, Meta(ge=8, le=8192)] = 128


class HeldOutConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to measure on: of each set about `share` of the questions, at most `n_queries`.

    They rank the documents that were mined for any of them.
    """

    share: Share = 0.05
    n_queries: Count = 50


class SpladeRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe: `backbone` masked (SPLADE) or decoder (Echo-SPLADE), `model` as it is resolved.

    `data` is trained on. `dev` sets are measured on whole; so is what is held out of `data`.
    `avoid` names judgements (`FOLDER/qrels/SPLIT.tsv`) measured on later: questions whose relevant
    document is relevant there, or that are asked there, are not trained on.
    """

    model: str
    data: tuple[PairSource, ...]
    loop: LoopConfig
    backbone: Literal["masked", "decoder"] = "masked"
    loss: SpladeLossConfig = SpladeLossConfig()
    mining: MiningConfig = MiningConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    dev: tuple[PairSource, ...] = ()
    avoid: tuple[str, ...] = ()
    adaptation: AdaptationConfig | None = None
    low_rank: LowRankConfig | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data: give at least one set")
        names = [source.name for source in (*self.data, *self.dev)]
        if len(set(names)) != len(names):
            raise ValueError("data and dev: two sets have one name")
        if self.backbone == "masked" and (self.adaptation or self.low_rank):
            raise ValueError("adaptation and low_rank are for backbone decoder")

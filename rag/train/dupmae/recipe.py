"""What a DupMAE recipe says."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rag.retrievers.duplex_layout import Pooling
from rag.train.candidates import MiningConfig
from rag.train.pairs import PairSource
from rag.train.recipe import Count, LoopConfig, Share
from rag.train.splade_recipe import HeldOutConfig, Positive, Weight

Tokens = Annotated[int, Meta(ge=8, le=512)]


class PretrainingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Phase 1, on passages without questions (Xiao et al. 2022, 2023).

    `file` has one `{source, text}` a line; only `sources` are read (none: all). `masked` is the
    share of words that the encoder does not see, `visible` the share of tokens that each row of
    the decoder does. The loss is mlm · masked LM + decoder · enhanced decoder + bag_of_words ·
    bag of words + tie · (1 − cosine to the base's own embedding) + sparsity · FLOPS of the lexical
    weights. Its softmaxes are over the batch's own tokens and `n_terms` others, drawn for each
    step (0: all of the vocabulary).
    """

    loop: LoopConfig
    file: str = "pretrain/passages.jsonl.gz"
    sources: tuple[str, ...] = ()
    max_tokens: Tokens = 128
    masked: Share = 0.3
    visible: Share = 0.5
    mlm: Weight = 1.0
    decoder: Weight = 1.0
    bag_of_words: Weight = 1.0
    tie: Weight = 0.0
    sparsity: Weight = 0.0
    n_terms: Annotated[int, Meta(ge=0)] = 0


class DuplexLossConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stage's loss on the scores s = dense + lexical.

    contrastive · InfoNCE(s) + kl · KL(s) + halves · (KL(2 · dense) + KL(2 · lexical)) / 2 +
    tie · (1 − cosine to the base's own embedding) + λ_q · FLOPS_q + λ_d · FLOPS_d. `n_negatives`
    mined ones go with each question; the other questions' documents are its negatives too in
    InfoNCE. The teacher's scores are multiplied by `teacher_scale`. FLOPS of documents is
    estimated on `n_terms` terms drawn for each step (0: all).
    """

    n_negatives: Count = 4
    max_tokens: Tokens = 128
    contrastive: Weight = 1.0
    kl: Weight = 0.0
    halves: Weight = 0.0
    tie: Weight = 0.0
    teacher_scale: Positive = 1.0
    lambda_query: Weight = 0.0
    lambda_document: Weight = 0.0
    n_terms: Annotated[int, Meta(ge=0)] = 2048


class StageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage of fine-tuning: a run of its own that begins with the one before.

    One that is not `measured` keeps its last state; the last one must be.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    loop: LoopConfig
    loss: DuplexLossConfig = DuplexLossConfig()
    measured: bool = True


class DupmaeRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe: `model` is the base, whose lowest `n_shared_layers` stay as they are.

    What is kept of texts is as in `rag.retrievers.duplex_layout.DuplexConfig`. `data` is trained
    on. `dev` sets are measured on; so is what is held out of `data`. `avoid` names judgements
    (`FOLDER/qrels/SPLIT.tsv`) measured on later: questions whose relevant document is relevant
    there, or that are asked there, are not trained on.
    """

    model: str
    data: tuple[PairSource, ...]
    pretraining: PretrainingConfig
    stages: tuple[StageConfig, ...]
    n_shared_layers: Annotated[int, Meta(ge=0)] = 3
    dimension: Count = 192
    pooling: Pooling = "cls"
    literal: bool = False
    doc_terms: Count = 192
    query_terms: Count = 64
    max_tokens: Tokens = 256
    dense_scale: Positive = 15.0
    mining: MiningConfig = MiningConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    dev: tuple[PairSource, ...] = ()
    avoid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.data or not self.stages:
            raise ValueError("data and stages: give at least one of each")
        names = [source.name for source in (*self.data, *self.dev)]
        if len(set(names)) != len(names):
            raise ValueError("data and dev: two sets have one name")
        if not self.stages[-1].measured:
            raise ValueError("stages: the last one must be measured")
        stages = [stage.name for stage in self.stages]
        if len(set(stages)) != len(stages):
            raise ValueError("stages: two have one name")

    @property
    def loop(self) -> LoopConfig:
        """The last stage's loop: its seed is the one that mining uses."""
        return self.stages[-1].loop

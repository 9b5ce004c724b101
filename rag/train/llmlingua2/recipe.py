"""What an llmlingua2 recipe says."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rag.train.pairs import PairSource
from rag.train.recipe import Count, LoopConfig, Share
from rag.train.splade_recipe import LowRankConfig


class MeetingSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A QMSum file: `file` is relative to the data folder; `weight` as of the other sets."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    file: str
    weight: Annotated[float, Meta(gt=0)] = 1.0


class DistilledSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `rag train distil` wrote: `file` is relative to the data folder.

    The shares of pairs that are left out: those with the most words of the teacher's own, and of
    the rest those with the most words left unmarked (5% and 10% in the paper).
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    file: str
    weight: Annotated[float, Meta(gt=0)] = 1.0
    drop_variation: Share = 0.05
    drop_gap: Share = 0.1


class ExampleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How texts become examples.

    Each question brings one text that answers it and `n_negatives` that do not, the best by BM25
    among `depth`. The share `question_free` of the answering texts comes without a question. Texts
    and question together have at most `max_tokens` tokens.
    """

    n_negatives: Count = 1
    depth: Count = 8
    question_free: Share = 0.15
    max_tokens: Annotated[int, Meta(ge=32, le=512)] = 256


class RetentionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to measure on: of each set about `share` of the questions, at most `n_queries`."""

    share: Share = 0.05
    n_queries: Count = 40


class LlmLingua2Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe: an encoder `model`, as it is resolved, gets a head that says what to preserve.

    With `low_rank` the encoder's layers are corrected and the result names its base; without, all
    of it is trained. `data` has questions with answers, `meetings` relevant spans, `distilled` a
    teacher's compressions, which come without a question. `avoid` names
    judgements (`FOLDER/qrels/SPLIT.tsv`) measured on later: their questions and paragraphs are
    not trained on.
    """

    model: str
    loop: LoopConfig
    data: tuple[PairSource, ...] = ()
    meetings: tuple[MeetingSource, ...] = ()
    distilled: tuple[DistilledSource, ...] = ()
    examples: ExampleConfig = ExampleConfig()
    held_out: RetentionConfig = RetentionConfig()
    avoid: tuple[str, ...] = ()
    low_rank: LowRankConfig | None = None

    def __post_init__(self) -> None:
        names = [one.name for one in self.data]
        names += [one.name for one in self.meetings]
        names += [one.name for one in self.distilled]
        if not names:
            raise ValueError("data, meetings, distilled: give at least one set")
        if len(set(names)) != len(names):
            raise ValueError("data, meetings, distilled: two sets have one name")

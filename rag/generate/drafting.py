"""What drafters need besides the prompt, and the drafter that a request asks for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from indexes.errors import InvalidInput
from rag.answer import Decode
from rag.generate.drafter import Drafter
from rag.generate.free_drafter import Copier, FreeDrafter
from rag.generate.goodput import Goodput
from rag.generate.language_model import LanguageModel
from rag.generate.lookup import PromptLookup
from rag.generate.prefill import Watch
from rag.generate.prefix_cache import PrefixCache
from rag.generate.rag_drafter import RagDrafter
from rag.generate.recycle import Successors, TokenRecycling
from rag.generate.sampler import Sampler
from rag.generate.suffix import AnswerMemory, SuffixLookup


class DraftMemory:
    """What earlier requests taught: keep one for each tenant and index, and never across tenants.

    `goodput` is of one model on one machine, and `prefixes` are of that model; both may be shared
    by several memories. Shared between threads.
    """

    def __init__(self, goodput: Goodput | None = None, prefixes: PrefixCache | None = None) -> None:
        self.answers = AnswerMemory()
        self.successors = Successors()
        self.goodput = goodput or Goodput()
        self.prefixes = prefixes


class Drafting(msgspec.Struct, frozen=True):
    """`model` drafts for rapid (None: the target itself), and `prompt_ids` is what it reads.

    The caller has held `model` to `tokenizer_identity.check_same_tokenizer` when it was loaded.
    """

    memory: DraftMemory
    model: LanguageModel | None = None
    prompt_ids: Sequence[int] = ()


def open_drafter(
    decode: Decode,
    target: LanguageModel,
    n_prompt: int,
    drafting: Drafting,
    sampler: Sampler,
    watch: Watch,
) -> Drafter | None:
    """The drafter of one request; None for plain decoding. Raises `InvalidInput`."""
    if decode.drafter == "none":
        return None
    if decode.drafter == "rapid":
        if not drafting.prompt_ids:
            raise InvalidInput("rapid needs a short context to draft from", "/decode/drafter")
        model = drafting.model or target
        return RagDrafter(model, drafting.prompt_ids, target, n_prompt, sampler, watch)
    return FreeDrafter(_copiers(decode, drafting.memory))


def _copiers(decode: Decode, memory: DraftMemory) -> list[Copier]:
    """What a free drafter copies from."""
    match decode.drafter:
        case "lookup":
            return [PromptLookup()]
        case "suffix":
            return [SuffixLookup(memory.answers)]
        case "recycle":
            return [TokenRecycling(memory.successors)]
    return [SuffixLookup(memory.answers), TokenRecycling(memory.successors)]

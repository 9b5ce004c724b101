"""One pass over passages for several retrievers that begin with the same layers.

Passages are tokenised once and go through the shared lowest layers once; after each layer where a
retriever branches off it is handed the states, and goes on with what is its own. So a passage
costs one encoder and each retriever's upper part, instead of an encoder each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from indexes.manifest import RetrieverEntry
from indexes.representation import PassageVectors
from rag.models.torch_runtime import Precision, computing_in
from rag.retrievers.batching import token_batches
from rag.retrievers.retriever import Retriever

if TYPE_CHECKING:
    import torch

    from rag.models.bert_layers import BertEncoder
    from rag.retrievers.model_tokens import ModelTokenizer

MAX_ROWS = 128
"""Passages computed at a time at most: some retrievers make a row of the vocabulary of each."""


class SharedLayers(msgspec.Struct, frozen=True):
    """What a retriever may have in common with others; those with an equal `key` share a pass.

    `n_layers` of the encoder's layers are shared, the retriever goes on from there.
    """

    encoder: BertEncoder
    tokenizer: ModelTokenizer
    sha256: str
    max_tokens: int
    passage_prompt: str
    n_layers: int
    batch_tokens: int
    precision: Precision

    @property
    def key(self) -> tuple[str, int, str]:
        """Weights, limit and prompt: with these alike the same token ids meet the same layers."""
        return self.sha256, self.max_tokens, self.passage_prompt


@runtime_checkable
class Layered(Protocol):
    """A retriever whose encoder has layers in common with others.

    What `begin` gives is handed to each `take`, which writes the passages at `places`, and at last
    to `finish`. States `[B, L, d]` come out of the shared layers; `mask` bool `[B, L]` is False at
    padding, None where there is none; `rows` are the token ids.
    """

    entry: RetrieverEntry

    def shared_layers(self) -> SharedLayers | None:
        """What may be shared; None where it has to read alone."""

    def begin(self, n_passages: int) -> Any:
        """Room for so many passages."""

    def take(
        self,
        found: Any,
        places: Sequence[int],
        states: torch.Tensor,
        mask: torch.Tensor | None,
        rows: Sequence[Sequence[int]],
    ) -> None:
        """Go on from the shared layers' states and write what comes out."""

    def finish(self, found: Any) -> PassageVectors:
        """All passages' representations."""


def sharing(retrievers: Sequence[Retriever]) -> list[list[Layered]]:
    """Those of the retrievers that can read together, two or more in each group."""
    groups: dict[tuple[str, int, str], list[Layered]] = {}
    for retriever in retrievers:
        if isinstance(retriever, Layered):
            shared = retriever.shared_layers()
            if shared is not None:
                groups.setdefault(shared.key, []).append(retriever)
    return [group for group in groups.values() if len(group) > 1]


def encode_together(
    group: Sequence[Layered],
    texts: Sequence[str],
    on_done: Mapping[str, Callable[[int], None]],
) -> dict[str, PassageVectors]:
    """Represent passages by all of a group of `sharing`, the same as each does alone.

    `on_done[name](n)` is told of each n passages that a retriever has finished.
    """
    import torch

    from rag.models.bert_layers import padded

    branches = sorted(
        ((_shared(one).n_layers, number, one) for number, one in enumerate(group)),
        key=lambda branch: branch[:2],
    )
    shared = _shared(group[0])
    encoder = shared.encoder
    device = str(encoder.words.weight.device)
    read = shared.tokenizer.read([shared.passage_prompt + text for text in texts])
    rows = [text.ids for text in read]
    found = {one.entry.name: one.begin(len(texts)) for one in group}
    for places in token_batches([len(row) for row in rows], shared.batch_tokens, MAX_ROWS):
        some = [rows[place] for place in places]
        with torch.inference_mode(), computing_in(shared.precision, device):
            ids, mask = padded(some, encoder.shape.pad_token_id, device)
            states, done = encoder.embed(ids), 0
            for n_layers, _, one in branches:
                states, done = encoder.run(states, mask, done, n_layers), n_layers
                one.take(found[one.entry.name], places, states, mask, some)
        for one in group:
            on_done[one.entry.name](len(places))
    return {one.entry.name: one.finish(found[one.entry.name]) for one in group}


def _shared(retriever: Layered) -> SharedLayers:
    shared = retriever.shared_layers()
    assert shared is not None
    return shared

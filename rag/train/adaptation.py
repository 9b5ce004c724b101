"""The phase before Echo-SPLADE: a decoder's head learns to speak in weights above zero.

Most logits of a language model are negative, or all positive: softmax does not care. Under
log(1 + relu(·)) such a head gives empty or full vectors, and where relu is 0 nothing is learned
(CSPLADE, Xu et al. 2025). So the model is first trained on two language modelling losses, the
plain one and one whose softmax is over log(1 + relu(logits)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from rag.retrievers.retriever import passage_input
from rag.train.order import MixedOrder
from rag.train.recipe import LoopConfig
from rag.train.splade_data import TrainingSet
from rag.train.vocabulary_network import VocabularyNetwork


class AdaptationTask:
    """Owns the network; the examples are the sets' documents."""

    def __init__(
        self, network: VocabularyNetwork, sets: Sequence[TrainingSet], loop: LoopConfig
    ) -> None:
        self._network = network
        self._texts = [
            [passage_input(one.title, one.text) for one in chosen.pairs.documents]
            for chosen in sets
        ]
        sizes = [len(texts) for texts in self._texts]
        weights = [chosen.pairs.source.weight for chosen in sets]
        self._order = MixedOrder(sizes, weights, loop.batch_size, loop.seed)

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """All of the model's."""
        return self._network.parameters()

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The parameters are all."""
        return self._network.parameters()

    def examples(self, step: int) -> Sequence[str]:
        """Documents of one set."""
        source, places = self._order.batch(step)
        return [self._texts[source][place] for place in places]

    def losses(self, examples: Sequence[str], step: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """Both losses, averaged over tokens; `positive` is the share of logits above zero."""
        self._network.train(dropout=False)
        rows = [row for row in self._network.rows(examples) if len(row) > 1]
        hidden, lengths = self._network.model.hidden(rows)
        states = torch.cat([state[:-1] for state in hidden.split(lengths)])
        targets = torch.tensor([token for row in rows for token in row[1:]], device=states.device)
        logits = self._network.model.head(states).float()
        plain = functional.cross_entropy(logits, targets)
        sparse = functional.cross_entropy(torch.log1p(torch.relu(logits)), targets)
        positive = (logits > 0).float().mean()
        return {"loss": plain + sparse, "plain": plain, "sparse": sparse, "positive": positive}

    def after_update(self, step: int) -> None:
        """Nothing goes on between updates."""

    def measure(self) -> dict[str, float]:
        """Its losses are all there is to see."""
        return {}

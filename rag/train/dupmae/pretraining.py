"""Phase 1: what stands for the text, and its ordinary tokens, must let simple decoders tell it.

The encoder reads a text with 30% of its words hidden and predicts those (masked LM). A decoder of
one layer has to tell every token from the text's one state, [CLS] or the mean, and half of the
other tokens (enhanced decoding, Xiao et al. 2022). The maximum of the ordinary tokens' logits has
to tell the set of tokens (Xiao et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from rag.models.bert_layers import BertLayer, copy_tensors, padded
from rag.retrievers.duplex_model import LITERAL
from rag.train.dupmae.losses import Terms, bag_of_words_loss, tie_loss, token_loss
from rag.train.dupmae.masking import CONTINUES, mask_words, visibility
from rag.train.dupmae.network import DuplexNetwork
from rag.train.dupmae.recipe import PretrainingConfig
from rag.train.order import epoch_order
from rag.train.splade_loss import flops

DECODER = "decoder."

TIED = 0.25
"""Share of the texts that are tied to the base: it has to read them too, all of them."""


class EnhancedDecoder(nn.Module):  # type: ignore[misc]
    """One transformer layer whose queries know the text's one state and their position only.

    It begins as the encoder's last layer: a random one would have to learn attention first.
    """

    def __init__(self, network: DuplexNetwork) -> None:
        super().__init__()
        self._positions = [network.encoder.positions.weight]
        self.layer = BertLayer(network.encoder.shape)
        last = network.encoder.stack.layers[-1]
        copy_tensors(dict(last.named_parameters()), dict(self.layer.named_parameters()))

    def forward(
        self, sentence: torch.Tensor, embedded: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        """States `[B, L, d]` from the text's one state h `[B, d]`, its embeddings and visibility.

        Queries are h + p_i; what is read is h at position 0 and the whole text's embeddings
        elsewhere.
        """
        places = self._positions[0][: embedded.shape[1]]
        queries = sentence[:, None, :] + places[None, :, :]
        context = torch.cat([sentence[:, None, :].to(embedded.dtype), embedded[:, 1:]], dim=1)
        found: torch.Tensor = self.layer(queries, seen[:, None], context)
        return found


class PretrainingTask:
    """Owns network and decoder; the examples are passages."""

    def __init__(
        self, network: DuplexNetwork, texts: Sequence[str], config: PretrainingConfig
    ) -> None:
        self.network, self._texts, self._config = network, texts, config
        with torch.random.fork_rng():
            torch.manual_seed(config.loop.seed)
            self._decoder = EnhancedDecoder(network).to(network.device)
        vocabulary = network.vocabulary()
        self._continues = np.array([token.startswith(CONTINUES) for token in vocabulary])
        self._mask_token = vocabulary.index("[MASK]")

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The network's, without a literal gate, and the decoder's, which is thrown away."""
        mine = {f"{DECODER}{name}": one for name, one in self._decoder.named_parameters()}
        named = self.network.parameters().items()
        return {name: one for name, one in named if not name.startswith(LITERAL)} | mine

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The parameters are all."""
        return self.parameters()

    def examples(self, step: int) -> Sequence[str]:
        """The next passages of an epoch's order."""
        size, n_texts = self._config.loop.batch_size, len(self._texts)
        places = range(step * size, (step + 1) * size)
        orders = {
            epoch: epoch_order(n_texts, self._config.loop.seed, epoch)
            for epoch in {place // n_texts for place in places}
        }
        return [self._texts[orders[place // n_texts][place % n_texts]] for place in places]

    def losses(self, examples: Sequence[str], step: int) -> dict[str, torch.Tensor]:
        """The phase's loss and its terms."""
        config, network = self._config, self.network
        generator = np.random.default_rng([config.loop.seed, step])
        rows = [row for row in network.rows(examples, config.max_tokens) if len(row) > 2]
        hidden = [
            mask_words(row, self._continues, config.masked, self._mask_token, generator)
            for row in rows
        ]
        states, mask, _ = network.states([read for read, _ in hidden])
        ids, _ = padded(rows, network.encoder.shape.pad_token_id, network.device)
        if mask is None:
            mask = torch.ones_like(ids, dtype=torch.bool)
        terms = Terms(ids[mask], config.n_terms, len(network.model.decoder))
        table = network.model.decoder[terms.ids]
        bias = network.head.bias[terms.ids]
        found = {"mlm": self._masked_lm(states, ids, [places for _, places in hidden], terms)}
        ordinary, counts = network.model.ordinary(states, rows)
        headed = network.head(ordinary).split(counts)
        pooled = torch.stack([(text @ table.t()).amax(0) for text in headed]).float() + bias
        bags = [
            terms.places(torch.tensor(sorted(set(row[1:-1])), device=network.device))
            for row in rows
        ]
        found["bag_of_words"] = bag_of_words_loss(pooled, bags)
        found["sparsity"] = flops(torch.log1p(torch.relu(pooled)))
        sentence = network.model.sentence(states, mask)
        found["decoder"] = self._decode(sentence, ids, mask, terms)
        some = slice(math.ceil(len(rows) * TIED))
        found["tie"] = self._tie(states[some], ids[some], mask[some])
        found["loss"] = (
            config.mlm * found["mlm"]
            + config.decoder * found["decoder"]
            + config.bag_of_words * found["bag_of_words"]
            + config.tie * found["tie"]
            + config.sparsity * found["sparsity"]
        )
        return found

    def after_update(self, step: int) -> None:
        """Nothing goes on between updates."""

    def measure(self) -> dict[str, float]:
        """Its losses are all there is to see."""
        return {}

    def _masked_lm(
        self,
        states: torch.Tensor,
        ids: torch.Tensor,
        places: Sequence[Sequence[int]],
        terms: Terms,
    ) -> torch.Tensor:
        rows = torch.tensor([row for row, some in enumerate(places) for _ in some])
        columns = torch.tensor([place for some in places for place in some])
        return self._tell(states[rows, columns], ids[rows, columns], terms)

    def _decode(
        self, sentence: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, terms: Terms
    ) -> torch.Tensor:
        """The decoder's loss, on ordinary tokens."""
        with torch.no_grad():
            embedded = self.network.encoder.embed(ids)
        told = self._decoder(sentence, embedded, visibility(mask, self._config.visible))
        # A row's last token is [SEP]: it and [CLS] are not told.
        ordinary = mask.clone()
        ordinary[:, :-1] &= mask[:, 1:]
        ordinary[:, -1] = False
        ordinary[:, 0] = False
        return self._tell(told[ordinary], ids[ordinary], terms)

    def _tell(self, states: torch.Tensor, tokens: torch.Tensor, terms: Terms) -> torch.Tensor:
        """Cross entropy of the head's logits of states `[n, d]` and the true tokens `[n]`."""
        network = self.network
        logits = network.head(states) @ network.model.decoder[terms.ids].t()
        return token_loss(logits.float() + network.head.bias[terms.ids], terms.places(tokens))

    def _tie(self, states: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """How far the text with hidden words is from the base's view of the whole text."""
        if not self._config.tie:
            return torch.zeros((), device=ids.device)
        with torch.no_grad():
            lower = self.network.model.lower(ids, mask)
        return tie_loss(self.network.model.dense(states, mask), self.network.embedding(lower, mask))

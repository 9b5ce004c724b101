"""The dense-lexical duplex encoder (DupMAE, Xiao et al. 2023): one pass, two representations.

    dense    z = W h_CLS, or of the mean over all tokens
    lexical  w_j = log(1 + relu(max_i logits_ij)),  i over the ordinary tokens

The paper keeps the pooled logits as they are, its released code has no lexical half; without relu
a product of two negative logits would count as a match, so weights are SPLADE's (Formal et al.
2021). The head is BERT's masked-LM head, tied to the word embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from indexes.errors import ModelError
from rag.models.bert_layers import (
    BertEncoder,
    BertShape,
    copy_tensors,
    mean_state,
    padded,
    read_tensors,
    shared_encoder,
)
from rag.retrievers.duplex_layout import DuplexConfig, DuplexLayout
from rag.retrievers.screened_pooling import ScreenedHead

TRANSFORM = "cls.predictions.transform"
DECODER_BIAS = "cls.predictions.bias"
DECODER = "cls.predictions.decoder.weight"
PROJECTION = "projection.weight"
LITERAL = "literal."


class LexicalHead(nn.Module):  # type: ignore[misc]
    """BERT's masked-LM head up to the product with the word embeddings: dense, GELU, LayerNorm."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=shape.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States `[..., d]` → what the word embeddings are multiplied with, `[..., d]`."""
        found: torch.Tensor = self.norm(functional.gelu(self.dense(states)))
        return found

    def published(self) -> dict[str, nn.Parameter]:
        """The weights by the names that checkpoints have for them."""
        return {
            f"{TRANSFORM}.dense.weight": self.dense.weight,
            f"{TRANSFORM}.dense.bias": self.dense.bias,
            f"{TRANSFORM}.LayerNorm.weight": self.norm.weight,
            f"{TRANSFORM}.LayerNorm.bias": self.norm.bias,
            DECODER_BIAS: self.bias,
        }


class LiteralGate(nn.Module):  # type: ignore[misc]
    """How much more a text's own tokens weigh than what the head says of them.

    To the logit of token t at position i, where it stands, is added softplus(table_t + v · h_i).
    A head that was trained for hours learns to name the tokens it sees; one that was trained for
    minutes need not: it is told which they are.
    """

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(shape.vocab_size))
        self.direction = nn.Parameter(torch.zeros(shape.hidden_size))

    def forward(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """States `[n, d]` and the tokens `[n]` that stand there → what is added `[n]`."""
        return functional.softplus(self.table[tokens] + states.float() @ self.direction)


class DuplexModel(nn.Module):  # type: ignore[misc]
    """A shared encoder with upper layers, head and projection of its own.

    `head` is None where the folder has none: then there is only the dense half. The encoder's
    lowest layers are never changed; other models may hold the same one.
    """

    def __init__(self, encoder: BertEncoder, config: DuplexConfig, *, head: bool = True) -> None:
        super().__init__()
        shape = encoder.shape
        self.config = config
        self.encoder = encoder
        self.upper = encoder.upper(config.n_shared_layers)
        self.head = LexicalHead(shape) if head else None
        self.decoder: torch.Tensor = encoder.words.weight
        self._screened = ScreenedHead()
        self.literal = LiteralGate(shape) if config.literal else None
        self.projection = None
        if config.dimension:
            self.projection = nn.Linear(shape.hidden_size, config.dimension, bias=False)

    @property
    def dimension(self) -> int:
        """Components of a dense vector."""
        return self.config.dimension or self.encoder.shape.hidden_size

    def lower(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Embeddings and shared layers: states `[B, L, d]`."""
        return self.encoder.run(self.encoder.embed(ids), mask, 0, self.config.n_shared_layers)

    def states(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The last layer's states `[B, L, d]` of token ids, and the mask of what is no padding."""
        ids, mask = padded(rows, self.encoder.shape.pad_token_id, self.decoder.device)
        return self.upper.run(self.lower(ids, mask), mask), mask

    def dense(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The dense half of states `[B, L, d]`: `[B, dimension]`, unit length if so configured."""
        found = self.sentence(states, mask)
        if self.projection is not None:
            found = self.projection(found)
        return functional.normalize(found, dim=-1) if self.config.normalised else found

    def sentence(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """What stands for the whole text, `[B, d]`: the state of [CLS], or the mean of all."""
        if self.config.pooling == "cls":
            return states[:, 0]
        return mean_state(states, mask)

    def ordinary(
        self, states: torch.Tensor, rows: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, list[int]]:
        """The states of the ordinary tokens, end to end `[n, d]`, and how many each row has.

        A row of token ids begins with [CLS] and ends with [SEP]; neither is ordinary.
        """
        counts = [max(0, len(row) - 2) for row in rows]
        kept = [states[number, 1 : 1 + count] for number, count in enumerate(counts)]
        return torch.cat(kept), counts

    def literal_weights(
        self, states: torch.Tensor, headed: torch.Tensor, rows: Sequence[Sequence[int]]
    ) -> torch.Tensor | None:
        """Weights `[B, V]` of the texts' own tokens by the gate, 0 elsewhere; None without one.

        `states` and `headed` `[n, d]` are of the ordinary tokens, before and after the head.
        """
        if self.literal is None or self.head is None:
            return None
        tokens = torch.tensor(
            [token for row in rows for token in row[1:-1]], device=states.device, dtype=torch.long
        )
        logits = (headed.float() * self.decoder[tokens]).sum(1) + self.head.bias[tokens]
        weights = torch.log1p(torch.relu(logits + self.literal(states, tokens)))
        n_terms = len(self.decoder)
        firsts = torch.arange(len(rows), device=states.device) * n_terms
        counts = torch.tensor([max(0, len(row) - 2) for row in rows], device=states.device)
        places = tokens + firsts.repeat_interleave(counts)
        block = weights.new_zeros(len(rows) * n_terms)
        return block.scatter_reduce(0, places, weights, "amax").view(len(rows), n_terms)

    def lexical(self, states: torch.Tensor, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The lexical half `[B, V]` on the CPU, without gradients; rows without tokens are 0."""
        assert self.head is not None
        ordinary, counts = self.ordinary(states, rows)
        headed = self.head(ordinary)
        found = headed.new_zeros((len(rows), len(self.decoder)))
        there = [number for number, count in enumerate(counts) if count]
        if there:
            some = [counts[number] for number in there]
            table, bias = self.decoder.to(headed.dtype), self.head.bias.to(headed.dtype)
            found[there] = self._screened.pool(headed, some, table, bias)
        literal = self.literal_weights(ordinary, headed, rows)
        found = found.float()
        return (found if literal is None else torch.maximum(found, literal)).cpu()

    def best_positions(
        self, states: torch.Tensor, row: Sequence[int], term_ids: Sequence[int]
    ) -> list[int]:
        """For each term the place in a row of token ids at which its logit is greatest.

        `states` `[1, L, d]` are the text's; the gate's share counts where a token is the term.
        """
        assert self.head is not None
        ordinary, _ = self.ordinary(states, [row])
        wanted = torch.tensor(term_ids, device=states.device, dtype=torch.long)
        logits = self.head(ordinary).float() @ self.decoder[wanted].t() + self.head.bias[wanted]
        if self.literal is not None:
            tokens = torch.tensor(row[1:-1], device=states.device, dtype=torch.long)
            gate = self.literal(ordinary, tokens)
            logits += gate[:, None] * (tokens[:, None] == wanted)
        return [1 + place for place in logits.argmax(0).tolist()]

    def trained(self) -> dict[str, nn.Parameter]:
        """What a folder of ours holds, by name."""
        found = dict(self.upper.published())
        if self.head is not None:
            found |= self.head.published()
        if self.projection is not None:
            found[PROJECTION] = self.projection.weight
        if self.literal is not None:
            found |= {f"{LITERAL}{name}": one for name, one in self.literal.named_parameters()}
        return found


def load_duplex(layout: DuplexLayout, device: str) -> DuplexModel:
    """Load what a folder holds. Raises `ModelError` when its weights do not fit."""
    encoder = shared_encoder(layout.encoder, device)
    model = DuplexModel(encoder, layout.config, head=layout.head != "none").to(device)
    tensors = {name: value.float() for name, value in read_tensors(layout.trained).items()}
    copy_tensors(tensors, model.trained(), layout.trained.name)
    if layout.head == "masked" and DECODER in tensors:
        # Only our own head must be tied; a published one may have gone its own way.
        model.decoder = tensors[DECODER].to(device)
    if len(model.decoder) != encoder.shape.vocab_size:
        raise ModelError(f"{layout.trained.name}: its head has another vocabulary")
    return model.requires_grad_(requires_grad=False).eval()  # type: ignore[no-any-return]

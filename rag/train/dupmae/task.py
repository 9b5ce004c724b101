"""Fine-tuning: both halves learn to rank, together and each on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from torch import nn

from rag.retrievers.batching import token_batches
from rag.retrievers.retriever import passage_input
from rag.retrievers.worker_threads import WorkerThreads
from rag.train.dev import DevSet, Measure
from rag.train.dupmae.losses import tie_loss
from rag.train.dupmae.network import DuplexNetwork
from rag.train.dupmae.recipe import DuplexLossConfig, StageConfig
from rag.train.sparse_pooling import sparse_pool
from rag.train.splade_data import Example, Examples, TrainingSet
from rag.train.splade_loss import flops, info_nce, kl_divergence, mean_terms
from rag.train.splade_task import masked_answers

CHUNK_TOKENS = 4096
"""Tokens of texts, padding included, that go through the layers at a time."""

SMALLEST = 1e-6
"""A norm is at least this: an empty query's weights stay 0."""


class Halves(msgspec.Struct, frozen=True):
    """Texts as both halves see them.

    `dense` `[n, d]` of unit length; `ordinary` the head's states of each text's ordinary tokens
    `[tokens, d]`; `literal` `[n, V]` the weights of its own tokens by the gate, or None; `tie`
    `[n, d]` the base's own embeddings, or None.
    """

    dense: torch.Tensor
    ordinary: list[torch.Tensor]
    literal: torch.Tensor | None
    tie: torch.Tensor | None


class DuplexTask:
    """Owns the network. What it is measured on lies in `dev`; `folder` is rewritten each time."""

    def __init__(
        self,
        network: DuplexNetwork,
        sets: Sequence[TrainingSet],
        stage: StageConfig,
        dev: Sequence[DevSet],
        measure: Measure,
        folder: Path,
    ) -> None:
        self.network = network
        self._sets, self._config, self._dev = sets, stage.loss, dev
        self._measure, self._folder, self._measured = measure, folder, stage.measured
        self._examples = Examples(sets, stage)
        on_cpu = network.device.type == "cpu"
        self._workers = WorkerThreads(torch.get_num_threads() if on_cpu else 1)

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What the optimizer changes."""
        return self.network.parameters()

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The parameters are all."""
        return self.network.parameters()

    def examples(self, step: int) -> Sequence[Example]:
        """A batch of one set."""
        return self._examples(step)

    def losses(self, examples: Sequence[Example], step: int) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """The stage's loss and its terms; `terms_*` are mean numbers of terms above zero."""
        chosen, config, network = self._sets[examples[0].source], self._config, self.network
        documents = [chosen.pairs.documents[row] for one in examples for row in one.rows]
        questions = self.encode([chosen.pairs.queries[one.number].text for one in examples])
        passages = self.encode([passage_input(one.title, one.text) for one in documents])
        with torch.autocast(network.device.type, enabled=False):
            asked = self.query_weights(questions)
            lexical, sampled = self.lexical_scores(asked, passages)
            dense = network.dense_scale.exp() * questions.dense @ passages.dense.t()
            masked = torch.tensor(masked_answers(chosen, examples), device=network.device)
            teacher = torch.tensor([one.teacher for one in examples], device=network.device)
            found = duplex_loss(dense, lexical, teacher, masked, config)
            found["sparsity_query"] = flops(asked)
            found["sparsity_document"] = flops(sampled) * asked.shape[1] / sampled.shape[1]
            found["terms_query"] = mean_terms(asked)
            found["terms_document"] = mean_terms(sampled) * asked.shape[1] / sampled.shape[1]
            found["tie"] = _tied(questions, passages)
            found["dense_scale"] = network.dense_scale.exp()
            found["loss"] = (
                found["ranking"]
                + config.tie * found["tie"]
                + config.lambda_query * found["sparsity_query"]
                + config.lambda_document * found["sparsity_document"]
            )
        return found

    def after_update(self, step: int) -> None:
        """Nothing goes on between updates."""

    def measure(self) -> dict[str, float]:
        """Write the model as it would be delivered, and have that measured, if the stage is."""
        if not self._measured:
            return {}
        self.network.save(self._folder)
        return self._measure(self._folder, self._dev)

    def encode(self, texts: Sequence[str]) -> Halves:
        """Both halves of texts, differentiable; what the lexical one needs is left as states."""
        network = self.network
        rows = network.rows(texts, self._config.max_tokens)
        dense: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        ordinary, literal, ties = list(dense), list(dense), list(dense)
        for places in token_batches([len(row) for row in rows], CHUNK_TOKENS):
            some = [rows[place] for place in places]
            states, mask, lower = network.states(some)
            tokens, counts = network.model.ordinary(states, some)
            headed = network.head(tokens)
            own = network.model.literal_weights(tokens, headed, some)
            vectors = network.model.dense(states, mask)
            base = network.embedding(lower, mask) if self._config.tie else vectors
            for number, (place, part) in enumerate(zip(places, headed.split(counts), strict=True)):
                dense[place], ordinary[place], ties[place] = vectors[number], part, base[number]
                if own is not None:
                    literal[place] = own[number]
        return Halves(
            dense=torch.stack(dense).float(),
            ordinary=ordinary,
            literal=None if network.model.literal is None else torch.stack(literal),
            tie=torch.stack(ties).float() if self._config.tie else None,
        )

    def query_weights(self, questions: Halves) -> torch.Tensor:
        """`[B, V]` weights of unit length, the heaviest `query_terms` of each."""
        network, config = self.network, self.network.model.config
        weights = sparse_pool(
            torch.cat(questions.ordinary).float(),
            [len(tokens) for tokens in questions.ordinary],
            network.model.decoder,
            network.head.bias,
            self._workers,
        )
        if questions.literal is not None:
            weights = torch.maximum(weights, questions.literal)
        limit = weights.detach().topk(config.query_terms, dim=1).values[:, -1:]
        weights = weights * (weights >= limit)
        return weights / weights.norm(dim=1, keepdim=True).clamp(min=SMALLEST)

    def lexical_scores(
        self, asked: torch.Tensor, passages: Halves
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores `[B, N]`, and the passages' weights `[N, S]` of terms drawn at random.

        Only terms that a question of the batch has can score: the passages are pooled over those.
        """
        n_terms, n_drawn = asked.shape[1], self._config.n_terms
        (used,) = asked.detach().amax(0).nonzero(as_tuple=True)
        drawn = torch.randperm(n_terms, device=asked.device)[: n_drawn or n_terms]
        terms = torch.cat([used, drawn])
        table, bias = self.network.model.decoder[terms], self.network.head.bias[terms]
        rows = table.to(passages.ordinary[0].dtype)
        nothing = rows.new_zeros(len(terms)) - bias
        pooled = torch.stack(
            [(some @ rows.t()).amax(0) if len(some) else nothing for some in passages.ordinary]
        )
        weights = torch.log1p(torch.relu(pooled.float() + bias))
        if passages.literal is not None:
            weights = torch.maximum(weights, passages.literal[:, terms])
        return asked[:, used] @ weights[:, : len(used)].t(), weights[:, len(used) :]


def duplex_loss(
    dense: torch.Tensor,
    lexical: torch.Tensor,
    teacher: torch.Tensor,
    masked: torch.Tensor,
    config: DuplexLossConfig,
) -> dict[str, torch.Tensor]:
    """`ranking` and its terms, of both halves' scores `[B, B · (1 + n)]`.

    `teacher` `[B, 1 + n]` scores each question's own passages, the relevant one in column 0;
    `masked` is True where a passage answers a question and is not its target.
    """
    n_each = teacher.shape[1]
    teacher = teacher * config.teacher_scale
    places = torch.arange(len(teacher), device=teacher.device)

    def own(scores: torch.Tensor) -> torch.Tensor:
        return scores.view(len(teacher), len(teacher), n_each)[places, places]

    scores = dense + lexical
    found = {
        "contrastive": info_nce(scores, places * n_each, masked, 1.0),
        "kl": kl_divergence(own(scores), teacher, 1.0),
        "kl_dense": kl_divergence(2 * own(dense), teacher, 1.0),
        "kl_lexical": kl_divergence(2 * own(lexical), teacher, 1.0),
    }
    found["ranking"] = (
        config.contrastive * found["contrastive"]
        + config.kl * found["kl"]
        + config.halves * (found["kl_dense"] + found["kl_lexical"]) / 2
    )
    return found


def _tied(*texts: Halves) -> torch.Tensor:
    parts = [tie_loss(one.dense, one.tie) for one in texts if one.tie is not None]
    return torch.stack(parts).mean() if parts else torch.zeros(())

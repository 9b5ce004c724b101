"""The SPLADE task: a language model with its head, its examples and the loss of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from indexes.errors import ModelError
from rag.retrievers.batching import token_batches
from rag.retrievers.retriever import passage_input
from rag.retrievers.worker_threads import WorkerThreads
from rag.train.dev import DevSet, Measure
from rag.train.sparse_pooling import sparse_pool
from rag.train.splade_data import Example, Examples, TrainingSet
from rag.train.splade_loss import (
    anti_zero,
    flops,
    info_nce,
    kl_divergence,
    l1,
    margin_mse,
    mean_terms,
    quadratic_ramp,
)
from rag.train.splade_recipe import SpladeRecipe
from rag.train.vocabulary_network import VocabularyNetwork

CHUNK_TOKENS = 4096
"""Tokens of texts, padding included, that go through the layers at a time."""


class SpladeTask:
    """Owns the network. What it is measured on lies in `dev`; `folder` is rewritten each time."""

    def __init__(
        self,
        network: VocabularyNetwork,
        sets: Sequence[TrainingSet],
        recipe: SpladeRecipe,
        dev: Sequence[DevSet],
        measure: Measure,
        folder: Path,
    ) -> None:
        self.network = network
        self._sets, self._config, self._dev = sets, recipe.loss, dev
        self._measure, self._folder = measure, folder
        self._n_rising = round(recipe.loss.ramp * recipe.loop.n_steps)
        self._examples = Examples(sets, recipe)
        self._workers = WorkerThreads(torch.get_num_threads() if network.on_cpu else 1)

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What the optimizer changes."""
        return self.network.parameters()

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """What is saved: the parameters are all."""
        return self.network.parameters()

    def examples(self, step: int) -> Sequence[Example]:
        """A batch of one set."""
        return self._examples(step)

    def losses(self, examples: Sequence[Example], step: int) -> dict[str, torch.Tensor]:
        """The recipe's loss and its terms; `terms_*` are mean numbers of terms above zero."""
        chosen = self._sets[examples[0].source]
        questions = [chosen.pairs.queries[one.number].text for one in examples]
        documents = [chosen.pairs.documents[row] for one in examples for row in one.rows]
        self.network.train(dropout=self._config.dropout)
        queries = self.encode(questions)
        passages = self.encode([passage_input(one.title, one.text) for one in documents])
        with torch.autocast(queries.device.type, enabled=False):
            masked = torch.tensor(masked_answers(chosen, examples), device=queries.device)
            teacher = torch.tensor([one.teacher for one in examples], device=queries.device)
            return self._loss(queries, passages, teacher, masked, step)

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Vocabulary weights `[len(texts), V]`, differentiable."""
        rows = self.network.rows(texts)
        states: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        for places in token_batches([len(row) for row in rows], CHUNK_TOKENS):
            hidden, lengths = self.network.model.hidden([rows[place] for place in places])
            for place, state in zip(places, hidden.split(lengths), strict=True):
                states[place] = state
        lengths = [len(state) for state in states]
        head = self.network.model.head
        return sparse_pool(torch.cat(states), lengths, head.weight, head.bias, self._workers)

    def after_update(self, step: int) -> None:
        """Nothing goes on between updates."""

    def measure(self) -> dict[str, float]:
        """Write the model as it would be delivered, and have that measured."""
        self.network.save(self._folder)
        return self._measure(self._folder, self._dev)

    def _loss(
        self,
        queries: torch.Tensor,
        passages: torch.Tensor,
        teacher: torch.Tensor,
        masked: torch.Tensor,
        step: int,
    ) -> dict[str, torch.Tensor]:
        """`queries` `[B, V]`, `passages` `[B · (1 + n), V]`, `teacher` `[B, 1 + n]`."""
        config = self._config
        found = {"terms_query": mean_terms(queries), "terms_document": mean_terms(passages)}
        if not found["terms_query"] or not found["terms_document"]:
            raise ModelError(
                f"step {step + 1}: all vectors are empty, nothing can be learned from here: "
                "lower lambda_query and lambda_document or the learning rate"
            )
        n_each = teacher.shape[1]
        scores = queries @ passages.t()
        places = torch.arange(len(queries), device=queries.device)
        own = scores.view(len(queries), len(queries), n_each)[places, places]
        teacher = teacher * config.teacher_scale
        regulariser = flops if config.query_regulariser == "flops" else l1
        ranking = {
            "contrastive": info_nce(scores, places * n_each, masked, config.temperature),
            "margin": margin_mse(own, teacher),
            "kl": kl_divergence(own, teacher, config.temperature),
        }
        sparsity = {"sparsity_query": regulariser(queries), "sparsity_document": flops(passages)}
        ramp = quadratic_ramp(step, self._n_rising)
        found["loss"] = (
            config.contrastive * ranking["contrastive"]
            + config.margin * ranking["margin"]
            + config.kl * ranking["kl"]
            + ramp * config.lambda_query * sparsity["sparsity_query"]
            + ramp * config.lambda_document * sparsity["sparsity_document"]
            + config.anti_zero * (anti_zero(queries) + anti_zero(passages))
        )
        return found | ranking | sparsity


def masked_answers(chosen: TrainingSet, examples: Sequence[Example]) -> list[list[bool]]:
    """`[B, B · (1 + n)]`: the batch's documents that answer a question and are not its target."""
    rows = [row for one in examples for row in one.rows]
    n_each = len(examples[0].rows)
    masked = []
    for place, one in enumerate(examples):
        answers = chosen.false_negatives.among(one.number, rows)
        answers[place * n_each] = False
        masked.append(answers)
    return masked

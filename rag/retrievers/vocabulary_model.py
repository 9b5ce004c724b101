"""A language model whose head scores the vocabulary at every position: masked or causal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from indexes.errors import ModelError, Unsupported
from rag.models.safety import read_object
from rag.models.torch_runtime import quiet_transformers
from rag.retrievers.max_pooling import Activation, Pooling, pool
from rag.retrievers.screened_pooling import ScreenedHead

if TYPE_CHECKING:
    import torch

Head = Literal["masked", "causal"]

PROBE_TOLERANCE = 1e-3
"""How far our product may be from the model's own logits, relative to the largest."""


class VocabularyModel:
    """Owns the weights. Computing is safe for threads: nothing is changed by it.

    `module` is the model without its last layer, `head` that layer: training changes both. The
    model's last layer, the projection onto the vocabulary, is taken out: what the model then
    returns is that layer's input, and `pool` does the product. With `second_half` each row is a
    text twice over and only its second reading counts: a causal model has then seen all of the
    text at each position (Springer et al. 2024; Echo-Mistral-SPLADE, Doshi et al. 2024). With
    `is_trained` it is transformers' own model, which can be trained and saved.
    """

    def __init__(
        self,
        folder: Path,
        *,
        head: Head,
        device: str,
        second_half: bool = False,
        is_trained: bool = False,
    ) -> None:
        self.name = folder.name
        self._device = device
        self._second_half = second_half
        self._screened = ScreenedHead()
        self.module: Any
        self.head: torch.nn.Linear
        self.longest: int | None
        if is_trained or head == "causal" or not self._opened(folder):
            self._open_any(folder, head)

    def _opened(self, folder: Path) -> bool:
        """Whether it is a plain BERT, which is then open: the same, and soon."""
        from rag.retrievers.masked_bert import open_masked_bert

        found = open_masked_bert(folder)
        if found is None:
            return False
        module, projection = found
        self.longest = module.encoder.shape.max_position_embeddings
        self._pad = (read_object(folder / "config.json") or {}).get("pad_token_id") or 0
        self._head_name = ""
        self.module, self.head = module.to(self._device), projection.to(self._device)
        return True

    def _open_any(self, folder: Path, head: Head) -> None:
        model = _load(folder, head)
        self.longest = _positions(model.config)
        self._pad = getattr(model.config, "pad_token_id", None) or 0
        logits = _probe(model)
        self._head_name, projection = _take_head_out(model, folder)
        self.module = model.to(self._device).eval()
        self.head = projection.to(self._device)
        self._check(logits)

    @property
    def n_terms(self) -> int:
        """Rows of the projection: V."""
        return len(self.head.weight)

    @property
    def width(self) -> int:
        """Components of a hidden state: d."""
        return int(self.head.weight.shape[1])

    def weights(
        self, rows: Sequence[Sequence[int]], pooling: Pooling, activation: Activation
    ) -> torch.Tensor:
        """Vocabulary weights float32 `[len(rows), V]`, on the CPU. No row may be empty."""
        import torch

        with torch.inference_mode():
            hidden, lengths = self.hidden(rows)
            table, bias = self.head.weight, self.head.bias
            if pooling == "max":
                return self._screened.pool(hidden, lengths, table, bias, activation).cpu()
            return pool(hidden, lengths, table, bias, pooling=pooling, activation=activation).cpu()

    def best_positions(self, row: Sequence[int], term_ids: Sequence[int]) -> list[int]:
        """For each term the position, of those that count, at which its logit is greatest."""
        import torch

        with torch.inference_mode():
            hidden, _ = self.hidden([row])
            logits = hidden @ self.head.weight[list(term_ids)].t()
            found: list[int] = logits.argmax(0).tolist()
        return found

    def hidden(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, list[int]]:
        """What the head multiplies, `[positions that count, d]` end to end, and how many each."""
        import torch

        lengths = [len(row) for row in rows]
        longest = max(lengths)
        ids = torch.full((len(rows), longest), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[number, : len(row)] = 1
        # Without padding there is nothing to mask, and attention is faster without a mask.
        padded = {"attention_mask": mask.to(self._device)} if min(lengths) < longest else {}
        found: torch.Tensor = self.module(input_ids=ids.to(self._device), **padded).logits
        if self._second_half:
            for number, length in enumerate(lengths):
                mask[number, : length - length // 2] = 0
            lengths = [length // 2 for length in lengths]
        return found[mask.bool().to(self._device)], lengths

    def save(self, folder: Path) -> None:
        """Write configuration and weights, the head in its place, as transformers reads them.

        For one that was opened with `is_trained`.
        """
        import torch

        self.module.set_submodule(self._head_name, self.head)
        try:
            with quiet_transformers():
                self.module.save_pretrained(folder)
        finally:
            self.module.set_submodule(self._head_name, torch.nn.Identity())

    def _check(self, logits: torch.Tensor) -> None:
        """Raise `Unsupported` where the head does more than a product and a sum."""
        import torch

        with torch.inference_mode():
            hidden = self.module(input_ids=_probe_ids().to(self._device)).logits[0]
            ours = self.head(hidden).cpu()
        error = float((ours - logits).abs().max() / logits.abs().max().clamp(min=1e-6))
        if not error <= PROBE_TOLERANCE:
            raise Unsupported(
                f"the head of {self.name} does more than project onto the vocabulary "
                f"(our logits are off by {error:.2g})"
            )


def _load(folder: Path, head: Head) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    kind = AutoModelForCausalLM if head == "causal" else AutoModelForMaskedLM
    try:
        with quiet_transformers():
            return kind.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
            ).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder.name} is no {head} language model: {error}") from error


def _take_head_out(model: Any, folder: Path) -> tuple[str, torch.nn.Linear]:
    """The projection's name and the projection; in its place the model gets the identity."""
    import torch

    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise Unsupported(f"{folder.name} has no linear head over the vocabulary")
    name = next(name for name, part in model.named_modules() if part is head)
    model.set_submodule(name, torch.nn.Identity())
    return name, head


def _probe(model: Any) -> torch.Tensor:
    """The untouched model's logits of a few tokens, `[L, V]`."""
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=_probe_ids()).logits[0]
    return logits


def _probe_ids() -> torch.Tensor:
    import torch

    return torch.tensor([[5, 7, 11, 13]])


def _positions(config: Any) -> int | None:
    """Tokens the model can read; RoBERTa's kind keeps places up to its padding token's id free."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None:
        return None
    reserved = {"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl"}
    if config.model_type in reserved:
        return int(longest) - (config.pad_token_id or 0) - 1
    return int(longest)

"""Loading a token classifier: a whole checkpoint, or low-rank corrections of another encoder.

The second form is a small folder: `config.json` names the encoder by catalogue name, folder or hub
id and by the digest of its weights; one safetensors file holds the head and, for each corrected
layer W, A as `NAME.down` and B as `NAME.up`, so that W + scale · B A is what counts (LoRA, Hu et
al. 2021). Either form may have been trained with the question as first segment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from indexes.errors import Conflict, ModelError, Unsupported
from rag.models.positions import readable_tokens
from rag.models.resolver import ResolvedModel, resolve
from rag.models.safety import read_object
from rag.models.torch_runtime import Precision, quiet_transformers

if TYPE_CHECKING:
    import torch

    from rag.models.bert_layers import BertShape

HEAD = "ForTokenClassification"
LOW_RANK = f"LowRank{HEAD}"
"""The architecture that the small folder's `config.json` names."""

PRESERVE = 1
"""The class that means preserve, of two."""

DOWN = ".down"
"""What the name of a correction's first factor ends with."""

HEAD_WEIGHTS = ("classifier.weight", "classifier.bias")

MAX_TOKENS = 512
"""The longest piece, special tokens included, as published; a shorter-sighted model reads less."""


class LowRankConfig(msgspec.Struct, frozen=True):
    """`config.json` of corrections. `max_tokens` is what the model was trained to read."""

    base: str
    base_sha256: str
    scale: float
    reads_question: bool = False
    max_tokens: int = MAX_TOKENS
    architectures: tuple[str, ...] = (LOW_RANK,)


class ClassifierModel(msgspec.Struct, frozen=True):
    """What scoring needs: the logits of tokens, where the tokenizer lies, and how the model reads.

    `logits` takes token ids, what is no padding (None: nothing is) and segments (None where the
    model has none), each `[B, L]`, and gives `[B, L, classes]`.
    """

    logits: Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor | None], torch.Tensor]
    tokenizer: Path
    max_tokens: int
    reads_question: bool
    has_types: bool


def load_classifier(
    model: ResolvedModel, cache: Path, device: str, precision: Precision = "float32"
) -> ClassifierModel:
    """Load either form. Raises `ModelError` for anything without a trained two-class token head.

    A plain BERT computes in our own layers, in 16 bits where the precision is of fixed point;
    others in transformers', in single precision.
    """
    config = read_object(model.folder / "config.json") or {}
    low_rank = _low_rank(model, config)
    whole = model if low_rank is None else _base_of(model, low_rank, cache)
    shape: Any = _plain_shape(whole.folder)
    logits: Any
    if shape is None:
        module = load_module(model, cache).to(device)
        shape, logits = module.config, functools.partial(_module_logits, module, device)
    else:
        from rag.compress.bert_classifier import BertClassifier

        tensors = _tensors(model, whole, low_rank)
        logits = BertClassifier(
            shape,
            tensors,
            PRESERVE + 1,
            name=f"the classifier {model.name!r}",
            device=device,
            precision=precision,
        )
    max_tokens = min(MAX_TOKENS, readable_tokens(shape) or MAX_TOKENS)
    return ClassifierModel(
        logits=logits,
        tokenizer=whole.folder,
        max_tokens=max_tokens if low_rank is None else low_rank.max_tokens,
        reads_question=bool(config.get("reads_question", False)),
        has_types=getattr(shape, "type_vocab_size", 0) > 1,
    )


def load_module(model: ResolvedModel, cache: Path) -> Any:
    """Either form as a module of transformers, corrections added. Raises as `load_classifier`."""
    low_rank = _low_rank(model, read_object(model.folder / "config.json") or {})
    if low_rank is None:
        module, missing = encoder_with_head(model)
        if missing:
            raise ModelError(f"the classifier {model.name!r} lacks weights: {min(missing)}")
        return module.eval()
    module, _ = encoder_with_head(_base_of(model, low_rank, cache), num_labels=PRESERVE + 1)
    _correct(dict(module.named_parameters()), _saved(model), low_rank, model.name)
    return module.eval()


def encoder_with_head(model: ResolvedModel, **options: Any) -> tuple[Any, set[str]]:
    """The folder's encoder with a token head, and the names of weights the folder does not have."""
    import torch
    from transformers import AutoModelForTokenClassification

    try:
        with quiet_transformers():
            module, report = AutoModelForTokenClassification.from_pretrained(
                model.folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the classifier {model.name!r} cannot be loaded: {error}") from error
    return module, set(report["missing_keys"])


def _low_rank(model: ResolvedModel, config: Mapping[str, Any]) -> LowRankConfig | None:
    """What a folder of corrections says of itself; None for a whole checkpoint."""
    heads = [str(name) for name in config.get("architectures") or ()]
    if LOW_RANK in heads:
        try:
            return msgspec.convert(config, LowRankConfig)
        except msgspec.ValidationError as error:
            raise ModelError(f"{model.name}: config.json: {error}") from error
    if not any(HEAD in name for name in heads):
        raise ModelError(f"{model.name} has no token classification head, but {heads}")
    labels = config.get("id2label") or range(config.get("num_labels", PRESERVE + 1))
    if len(labels) != PRESERVE + 1:
        raise ModelError(f"{model.name} tells {len(labels)} classes apart, not 2")
    return None


def _base_of(model: ResolvedModel, low_rank: LowRankConfig, cache: Path) -> ResolvedModel:
    base = resolve(low_rank.base, cache)
    if base.sha256 != low_rank.base_sha256:
        raise Conflict(
            f"{model.name} corrects {low_rank.base} {low_rank.base_sha256[:12]}, "
            f"but {base.sha256[:12]} is here"
        )
    return base


def _plain_shape(folder: Path) -> BertShape | None:
    """A plain BERT's; None for another encoder."""
    from rag.models.bert_layers import bert_shape

    try:
        return bert_shape(folder)
    except Unsupported:
        return None


def _tensors(
    model: ResolvedModel, whole: ResolvedModel, low_rank: LowRankConfig | None
) -> Mapping[str, torch.Tensor]:
    """A plain BERT's weights, corrected, and its head's."""
    from rag.models.bert_layers import PREFIX, read_tensors

    tensors = {name: tensor.float() for name, tensor in read_tensors(whole.folder).items()}
    if low_rank is None:
        return tensors
    saved = _saved(model)
    head = {name: tensor for name, tensor in saved.items() if name in HEAD_WEIGHTS}
    named = {PREFIX + name: tensor for name, tensor in tensors.items()} | {
        name: tensor.clone() for name, tensor in head.items()
    }
    _correct(named, saved, low_rank, model.name)
    return {name.removeprefix(PREFIX): tensor for name, tensor in named.items()}


def _saved(model: ResolvedModel) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    saved = load_file(model.folder / "model.safetensors")
    return {name: tensor.float() for name, tensor in saved.items()}


def _correct(
    weights: Mapping[str, torch.Tensor],
    saved: Mapping[str, torch.Tensor],
    low_rank: LowRankConfig,
    name: str,
) -> None:
    """Add corrections to weights in place, and put the head in."""
    import torch

    try:
        with torch.no_grad():
            for down in [key for key in saved if key.endswith(DOWN)]:
                layer = down.removesuffix(DOWN)
                correction = saved[f"{layer}.up"] @ saved[down]
                weights[f"{layer}.weight"].add_(low_rank.scale * correction)
            for part in HEAD_WEIGHTS:
                weights[part].copy_(saved[part])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{name} does not fit {low_rank.base}: {error}") from error


def _module_logits(
    module: Any,
    device: str,
    ids: torch.Tensor,
    mask: torch.Tensor | None,
    types: torch.Tensor | None,
) -> torch.Tensor:
    read = None if mask is None else mask.long()
    features = {"input_ids": ids, "attention_mask": read, "token_type_ids": types}
    given = {name: value.to(device) for name, value in features.items() if value is not None}
    logits: torch.Tensor = module(**given).logits
    return logits

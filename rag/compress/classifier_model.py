"""Loading a token classifier: a whole checkpoint, or low-rank corrections of another encoder.

The second form is a small folder: `config.json` names the encoder by catalogue name, folder or hub
id and by the digest of its weights; one safetensors file holds the head and, for each corrected
layer W, A as `NAME.down` and B as `NAME.up`, so that W + scale · B A is what counts (LoRA, Hu et
al. 2021). Either form may have been trained with the question as first segment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import Conflict, ModelError
from rag.models.positions import readable_tokens
from rag.models.resolver import ResolvedModel, resolve
from rag.models.safety import read_object
from rag.models.torch_runtime import quiet_transformers

HEAD = "ForTokenClassification"
LOW_RANK = f"LowRank{HEAD}"
"""The architecture that the small folder's `config.json` names."""

PRESERVE = 1
"""The class that means preserve, of two."""

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
    """What scoring needs: the torch module, where its tokenizer lies, and how it reads."""

    module: Any
    tokenizer: Path
    max_tokens: int
    reads_question: bool


def load_classifier(model: ResolvedModel, cache: Path, device: str) -> ClassifierModel:
    """Load either form. Raises `ModelError` for anything without a trained two-class token head."""
    config = read_object(model.folder / "config.json") or {}
    heads = [str(name) for name in config.get("architectures") or ()]
    if LOW_RANK in heads:
        return _corrected(model, cache, device)
    if not any(HEAD in name for name in heads):
        raise ModelError(f"{model.name} has no token classification head, but {heads}")
    module, missing = encoder_with_head(model)
    if missing:
        raise ModelError(f"the classifier {model.name!r} lacks weights: {min(missing)}")
    if module.config.num_labels != PRESERVE + 1:
        raise ModelError(f"{model.name} tells {module.config.num_labels} classes apart, not 2")
    return ClassifierModel(
        module=module.to(device).eval(),
        tokenizer=model.folder,
        max_tokens=min(MAX_TOKENS, readable_tokens(module.config) or MAX_TOKENS),
        reads_question=bool(config.get("reads_question", False)),
    )


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


def _corrected(model: ResolvedModel, cache: Path, device: str) -> ClassifierModel:
    import torch
    from safetensors.torch import load_file

    content = (model.folder / "config.json").read_bytes()
    try:
        config = msgspec.json.decode(content, type=LowRankConfig)
    except msgspec.ValidationError as error:
        raise ModelError(f"{model.name}: config.json: {error}") from error
    base = resolve(config.base, cache)
    if base.sha256 != config.base_sha256:
        raise Conflict(
            f"{model.name} corrects {config.base} {config.base_sha256[:12]}, "
            f"but {base.sha256[:12]} is here"
        )
    module, _ = encoder_with_head(base, num_labels=PRESERVE + 1)
    saved = load_file(model.folder / "model.safetensors")
    tensors = {name: tensor.float() for name, tensor in saved.items()}
    parameters = dict(module.named_parameters())
    try:
        with torch.no_grad():
            for name in [key for key in tensors if key.endswith(".down")]:
                layer = name.removesuffix(".down")
                correction = tensors[f"{layer}.up"] @ tensors[name]
                parameters[f"{layer}.weight"] += config.scale * correction
            for name in ("classifier.weight", "classifier.bias"):
                parameters[name].copy_(tensors[name])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{model.name} does not fit {config.base}: {error}") from error
    return ClassifierModel(
        module=module.to(device).eval(),
        tokenizer=base.folder,
        max_tokens=config.max_tokens,
        reads_question=config.reads_question,
    )

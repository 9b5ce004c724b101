"""Language models run by onnxruntime on a CPU, behind the `LanguageModel` interface.

The graph is the product's own (`rag.models.decoder_graph`), built from the same weights that torch
loads. At fp32 its logits are torch's but for rounding. At int4 activations are rounded to 8 bits
too. A token's logits are the same to the bit however many tokens were fed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from indexes.errors import ModelError
from rag.generate.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from rag.generate.limits import check_position, check_tokens
from rag.generate.onnx_cache import KeyValueCache, bind_input, bind_output
from rag.models.decoder_shape import DecoderShape
from rag.models.optimize import OptimizedModel
from rag.models.resolver import ResolvedModel
from rag.models.safety import read_object

if TYPE_CHECKING:
    import torch

LEAST_ROWS = 2
"""Rows that the graph computes at least, so that a token's logits do not depend on the others."""

SPIN_US = 50
"""How long an idle worker thread looks for work before it sleeps: it bridges two operators of a
step. onnxruntime's default is many times that, which a busy machine pays for with other work."""


class OnnxModel:
    """A decoder's graph in an inference session; share it between threads, one context each."""

    def __init__(
        self,
        session: Any,
        shape: DecoderShape,
        tokenizer: ChatTokenizer,
        name: str,
        eos_ids: frozenset[int],
    ) -> None:
        self._session = session
        self._shape = shape
        self.name = name
        self.tokenizer = tokenizer
        self.context_length: int = shape.context_length
        self.vocabulary_size: int = shape.vocabulary_size
        self.eos_ids = eos_ids

    def open_context(self) -> OnnxContext:
        """A fresh, empty context with a key-value cache of its own."""
        return OnnxContext(self._session, self._shape, KeyValueCache(self._shape))


class OnnxContext:
    """One sequence and its key-value cache; see `rag.generate.language_model.Context`."""

    def __init__(
        self, session: Any, shape: DecoderShape, cache: KeyValueCache, position: int = 0
    ) -> None:
        self._session = session
        self._shape = shape
        self._cache = cache
        self._position = position
        self._binding = session.io_binding()
        cache.bind(self._binding)

    @property
    def position(self) -> int:
        """Tokens held in the cache."""
        return self._position

    @property
    def n_bytes(self) -> int:
        """Memory that the key-value cache takes."""
        return self._cache.n_bytes

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        """Append tokens; float32 logits `[len(token_ids) or 1, vocabulary]`."""
        import torch

        shape = self._shape
        check_tokens(
            token_ids,
            self._position,
            context_length=shape.context_length,
            vocabulary_size=shape.vocabulary_size,
        )
        n_tokens = len(token_ids)
        rows = list(range(n_tokens - 1 if last_only else 0, n_tokens))
        n_rows = len(rows)
        # One row takes kernels that add up in another order than those for several, and rounding
        # activations to 8 bits makes that visible: alone a token would get other logits than in a
        # draft. So there are always two; what the second leaves in the cache is overwritten.
        token_ids = [*token_ids, *token_ids][: max(n_tokens, LEAST_ROWS)]
        if self._position + len(token_ids) > shape.context_length:
            token_ids = token_ids[:n_tokens]
        rows = (rows * LEAST_ROWS)[: max(n_rows, LEAST_ROWS)]
        n_cached = self._position + len(token_ids)
        if self._cache.reserve(n_cached, keep=self._position):
            self._cache.bind(self._binding)
        # What is bound is memory, not tensors: these names keep it alive until the run is over.
        inputs = {
            "token_ids": torch.tensor([token_ids], dtype=torch.int64),
            "last_position": torch.tensor([n_cached - 1], dtype=torch.int32),
            "n_cached": torch.tensor(n_cached, dtype=torch.int32),
            "rows": torch.tensor(rows, dtype=torch.int64),
        }
        logits = torch.empty(len(rows), shape.vocabulary_size)
        for name, tensor in inputs.items():
            bind_input(self._binding, name, tensor)
        bind_output(self._binding, "logits", logits)
        self._session.run_with_iobinding(self._binding)
        self._position += n_tokens
        return logits[:n_rows]

    def crop(self, position: int) -> None:
        """Forget every token after the first `position`: what lies behind will be overwritten."""
        check_position(position, self._position, "crop to")
        self._position = position

    def fork(self, position: int) -> OnnxContext:
        """A context of its own that holds the first `position` tokens of this one."""
        check_position(position, self._position, "fork at")
        return OnnxContext(self._session, self._shape, self._cache.copy(position), position)


def load_onnx_model(
    model: ResolvedModel, optimized: OptimizedModel, *, n_threads: int = 0
) -> OnnxModel:
    """Open a graph that `find_optimized` or `optimize` has checked; nothing is downloaded.

    `n_threads` compute together for all contexts, 0 for as many as there are cores. Raises
    `ModelError` when the graph cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    try:
        session = onnxruntime.InferenceSession(
            optimized.graph, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no narrower class
        raise ModelError(f"cannot load the graph in {optimized.folder}: {error}") from error
    tokenizer = load_chat_tokenizer(model.folder)
    return OnnxModel(session, optimized.shape, tokenizer, model.name, _eos_ids(model))


def _eos_ids(model: ResolvedModel) -> frozenset[int]:
    """What ends a text, by transformers' rule: the generation config, else the model's config."""
    found = read_object(model.folder / "generation_config.json")
    if found is None:
        found = read_object(model.folder / "config.json") or {}
    eos = found.get("eos_token_id")
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)

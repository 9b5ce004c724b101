"""Language models run by onnxruntime on a CPU, behind the `LanguageModel` interface.

The graph is the product's own (`rag.models.decoder_graph`), built from the same weights that torch
loads. At fp32 its logits are torch's but for rounding. At int4 activations are rounded to 8 bits
too, which makes much of the last bits of what goes in: computed by other kernels, one logit in
twenty falls on the other side of a tie. So a sequence that is fed alone never has attention over a
single token or a product with a single row, for which onnxruntime has kernels of their own (which,
depends on the processor), but over two, the second a spare: then logits do not depend, by a single
bit, on how many tokens are fed at once, and neither does the text on drafts, pieces or kept
prefixes. Sequences of several requests do without the spare when they are fed together, as it costs
half as much again there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from indexes.errors import InvalidInput, ModelError
from rag.generate.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from rag.generate.ends import eos_ids_of
from rag.generate.language_model import Context, Feed
from rag.generate.limits import check_position, check_tokens
from rag.generate.onnx_cache import KeyValueCache, bind_input, bind_output
from rag.generate.onnx_inputs import Piece, run_inputs
from rag.generate.slot_pool import SlotPool
from rag.models.decoder_shape import DecoderShape
from rag.models.optimize import OptimizedModel
from rag.models.resolver import ResolvedModel

if TYPE_CHECKING:
    import torch

SPIN_US = 50
"""How long an idle worker thread looks for work before it sleeps: it bridges two operators of a
step. onnxruntime's default is many times that, which a busy machine pays for with other work."""

SLOTS = 32
"""Sequences that may be fed together."""


class OnnxModel:
    """A decoder's graph in an inference session; share it between threads, one context each."""

    def __init__(
        self,
        session: Any,
        shape: DecoderShape,
        tokenizer: ChatTokenizer,
        name: str,
        eos_ids: frozenset[int],
        n_slots: int = SLOTS,
    ) -> None:
        self.session = session
        self.shape = shape
        self.slots = SlotPool(session, shape, n_slots)
        self.name = name
        self.tokenizer = tokenizer
        self.context_length: int = shape.context_length
        self.vocabulary_size: int = shape.vocabulary_size
        self.eos_ids = eos_ids

    def open_context(self) -> OnnxContext:
        """A fresh, empty context with a key-value cache of its own."""
        return OnnxContext(self, KeyValueCache(self.shape))

    def forward_together(self, feeds: Sequence[Feed], *, exact: bool = False) -> list[torch.Tensor]:
        """Logits of each feed, computed in one run; those without a slot come one by one.

        `exact`: with a spare for everyone who needs one, so to the bit what each gets alone.
        """
        contexts = [_ours(feed.context) for feed in feeds]
        pieces = [
            context.piece(feed.token_ids, feed.last_only)
            for context, feed in zip(contexts, feeds, strict=True)
        ]
        logits = self._compute(contexts, pieces, exact=exact)
        for context, piece in zip(contexts, pieces, strict=True):
            context.advance(piece)
        return logits

    def _compute(
        self, contexts: Sequence[OnnxContext], pieces: Sequence[Piece], *, exact: bool
    ) -> list[torch.Tensor]:
        if len(contexts) == 1:
            return [contexts[0].compute(pieces[0])]
        with self.slots.lock:
            slots = [context.enter_slot() for context in contexts]
            together = {
                slot: piece for slot, piece in zip(slots, pieces, strict=True) if slot is not None
            }
            found = self.run_slots(together, exact=exact) if together else {}
        return [
            context.compute(piece) if slot is None else found[slot]
            for context, piece, slot in zip(contexts, pieces, slots, strict=True)
        ]

    def run_slots(self, pieces: dict[int, Piece], *, exact: bool) -> dict[int, torch.Tensor]:
        """Feed the sequences in these slots; hold the slots' lock."""
        first, end = min(pieces), max(pieces) + 1
        exact = exact or len(pieces) == 1
        n_places = max(piece.n_places(exact=exact) for piece in pieces.values())
        self.slots.reserve(n_places + max(piece.position for piece in pieces.values()))
        binding = self.slots.binding(first, end)
        table = {slot - first: piece for slot, piece in pieces.items()}
        logits = self.run(binding, table, end - first, exact=exact)
        return dict(zip(pieces, logits, strict=True))

    def run(
        self, binding: Any, pieces: dict[int, Piece], n_sequences: int, *, exact: bool
    ) -> list[torch.Tensor]:
        """One run over what is bound; the logits of each piece."""
        import torch

        inputs = run_inputs(pieces, n_sequences, exact=exact)
        # What is bound is memory, not tensors: these names keep it alive until the run is over.
        logits = torch.empty(inputs.n_rows, self.vocabulary_size)
        for name, tensor in inputs.tensors.items():
            bind_input(binding, name, tensor)
        bind_output(binding, "logits", logits)
        self.session.run_with_iobinding(binding)
        return [logits[rows] for rows in inputs.slices]


class OnnxContext:
    """One sequence and its key-value cache; see `rag.generate.language_model.Context`.

    The cache is its own until the context is first fed together with others: then it is a slot.
    """

    def __init__(self, model: OnnxModel, cache: KeyValueCache, position: int = 0) -> None:
        self._model = model
        self._cache: KeyValueCache | None = cache
        self._binding: Any = None
        self._slot = 0
        self._position = position

    @property
    def position(self) -> int:
        """Tokens held in the cache."""
        return self._position

    @property
    def n_bytes(self) -> int:
        """Memory that the key-value cache takes."""
        cache, _ = self._row()
        return cache.n_bytes // cache.n_rows

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        """Append tokens; float32 logits `[len(token_ids) or 1, vocabulary]`."""
        piece = self.piece(token_ids, last_only)
        logits = self.compute(piece)
        self.advance(piece)
        return logits

    def piece(self, token_ids: Sequence[int], last_only: bool) -> Piece:
        """The tokens as they would be appended; raises `InvalidInput` where they cannot be."""
        check_tokens(
            token_ids,
            self._position,
            context_length=self._model.context_length,
            vocabulary_size=self._model.vocabulary_size,
        )
        return Piece(self._position, token_ids, last_only)

    def compute(self, piece: Piece) -> torch.Tensor:
        """A piece's logits in a run of its own; the position stays."""
        if self._cache is not None:
            return self._run_own(self._cache, piece)
        with self._model.slots.lock:
            return self._model.run_slots({self._slot: piece}, exact=True)[self._slot]

    def advance(self, piece: Piece) -> None:
        """Count the tokens of a piece that was fed."""
        self._position += len(piece.token_ids)

    def enter_slot(self) -> int | None:
        """The context's slot, taken now if it has none; None when none is left. Hold the lock."""
        if self._cache is not None:
            slot = self._model.slots.admit(self, self._cache, self._position)
            if slot is None:
                return None
            self._slot, self._cache, self._binding = slot, None, None
        return self._slot

    def crop(self, position: int) -> None:
        """Forget every token after the first `position`: what lies behind will be overwritten."""
        check_position(position, self._position, "crop to")
        self._position = position

    def fork(self, position: int) -> OnnxContext:
        """A context of its own that holds the first `position` tokens of this one."""
        check_position(position, self._position, "fork at")
        cache, row = self._row()
        return OnnxContext(self._model, cache.copy(row, position), position)

    def _row(self) -> tuple[KeyValueCache, int]:
        if self._cache is None:
            return self._model.slots.cache, self._slot
        return self._cache, 0

    def _run_own(self, cache: KeyValueCache, piece: Piece) -> torch.Tensor:
        n_places = piece.n_places(exact=True)
        if piece.position + n_places > cache.capacity:
            bigger = KeyValueCache(self._model.shape, piece.position + n_places)
            bigger.write(0, cache, 0, piece.position)
            self._cache, self._binding, cache = bigger, None, bigger
        if self._binding is None:
            self._binding = self._model.session.io_binding()
            cache.bind(self._binding)
        return self._model.run(self._binding, {0: piece}, 1, exact=True)[0]


def _ours(context: Context) -> OnnxContext:
    if not isinstance(context, OnnxContext):
        raise InvalidInput("this context is another model's")
    return context


def load_onnx_model(
    model: ResolvedModel, optimized: OptimizedModel, *, n_threads: int = 0, n_slots: int = SLOTS
) -> OnnxModel:
    """Open a graph that `find_optimized` or `optimize` has checked; nothing is downloaded.

    `n_threads` compute together for all contexts, 0 for as many as there are cores. At most
    `n_slots` sequences are fed together. Raises `ModelError` when the graph cannot be loaded.
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
    return OnnxModel(
        session,
        optimized.shape,
        tokenizer,
        model.name,
        eos_ids_of(model),
        n_slots,
    )

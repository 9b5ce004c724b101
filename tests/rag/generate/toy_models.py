"""Language models of a few tokens whose every probability is a hash of the last tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch

from indexes.errors import InvalidInput


class ToyTokenizer:
    """Token 3 is the letter d; there are no special tokens."""

    special_tokens: frozenset[str] = frozenset()

    def encode(self, text: str) -> list[int]:
        return [ord(ch) - ord("a") for ch in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(chr(ord("a") + id_) for id_ in token_ids)

    def chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        return self.encode("".join(text for _, text in messages))


class ToyModel:
    """Logits depend on `order` last tokens and on `seed`: the fewer, the more it repeats itself.

    `noise` adds the logits of another seed, for drafters that are more or less right. `on_forward`
    is told how many tokens each forward has; `sharpness` is the spread of the logits.
    """

    def __init__(
        self,
        n_tokens: int,
        *,
        seed: int = 0,
        order: int = 2,
        noise: float = 0.0,
        sharpness: float = 2.0,
        context_length: int = 1000,
        eos_ids: frozenset[int] = frozenset(),
        on_forward: Callable[[int], None] = lambda n: None,
    ) -> None:
        self.name = f"toy-{seed}"
        self.tokenizer = ToyTokenizer()
        self.vocabulary_size = n_tokens
        self.context_length = context_length
        self.eos_ids = eos_ids
        self.on_forward = on_forward
        self._recipe = (seed, order, noise, sharpness)
        self._rows: dict[tuple[int, ...], torch.Tensor] = {}

    def logits(self, prefix: Sequence[int]) -> torch.Tensor:
        """The row after `prefix`, from nothing but its last tokens."""
        seed, order, noise, sharpness = self._recipe
        key = tuple(prefix[-order:]) if order else ()
        if key not in self._rows:
            row = hashed_row(seed, key, self.vocabulary_size)
            row += noise * hashed_row(seed + 1000, key, self.vocabulary_size)
            self._rows[key] = sharpness * row
        return self._rows[key]

    def open_context(self) -> ToyContext:
        return ToyContext(self)


class ToyContext:
    """Holds the tokens themselves; raises on anything the protocol forbids."""

    def __init__(self, model: ToyModel) -> None:
        self._model = model
        self._held: list[int] = []

    @property
    def position(self) -> int:
        return len(self._held)

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        if not token_ids:
            raise InvalidInput("no token to feed")
        if min(token_ids) < 0 or max(token_ids) >= self._model.vocabulary_size:
            raise InvalidInput("not in the vocabulary")
        if len(self._held) + len(token_ids) > self._model.context_length:
            raise InvalidInput("does not fit")
        self._model.on_forward(len(token_ids))
        rows = []
        for token_id in token_ids:
            self._held.append(token_id)
            rows.append(self._model.logits(self._held))
        return torch.stack(rows[-1:] if last_only else rows)

    def crop(self, position: int) -> None:
        if not 0 <= position <= len(self._held):
            raise InvalidInput("cannot crop to there")
        del self._held[position:]


def hashed_row(seed: int, key: Sequence[int], n_tokens: int) -> torch.Tensor:
    """Normal numbers that are a function of (seed, key)."""
    digest = hashlib.sha256(repr((seed, tuple(key))).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(n_tokens, generator=generator)


class NoRepeat:
    """A toy constraint with a state that matters: no token twice in a row, 0 only at odd places."""

    def __init__(self, n_tokens: int) -> None:
        self._n_tokens = n_tokens

    def start(self, prompt_ids: Sequence[int]) -> tuple[int, int]:
        return 0, prompt_ids[-1]

    def advance(self, state: tuple[int, int], token_id: int) -> tuple[int, int]:
        keep = self.keep(state)
        assert keep[token_id], "advanced by an illegal token"
        return state[0] + 1, token_id

    def keep(self, state: tuple[int, int]) -> torch.Tensor:
        n_generated, last = state
        keep = torch.ones(self._n_tokens, dtype=torch.bool)
        keep[last] = False
        if n_generated % 2:
            keep[0] = False
        return keep


class Ban:
    """A constraint without a state: one token never comes."""

    def __init__(self, n_tokens: int, banned: int) -> None:
        self._keep = torch.ones(n_tokens, dtype=torch.bool)
        self._keep[banned] = False

    def start(self, prompt_ids: Sequence[int]) -> None:
        return None

    def advance(self, state: None, token_id: int) -> None:
        return None

    def keep(self, state: None) -> torch.Tensor:
        return self._keep


def toy_contrast(weight: float) -> Callable[..., torch.Tensor]:
    """(1 + w) log p - w log p0 with p0 a hash of each row's own prefix."""
    null_rows: dict[tuple[int, ...], torch.Tensor] = {}

    def contrast(logits: torch.Tensor, prefix: Sequence[int], draft: Sequence[int]) -> torch.Tensor:
        assert logits.shape[0] == len(draft) + 1
        text = [*prefix, *draft]
        rows = []
        for row in range(len(draft) + 1):
            key = tuple(text[: len(prefix) + row][-2:])
            if key not in null_rows:
                null_rows[key] = hashed_row(77, key, logits.shape[1]).log_softmax(-1)
            rows.append((1 + weight) * logits[row].log_softmax(-1) - weight * null_rows[key])
        return torch.stack(rows)

    return contrast

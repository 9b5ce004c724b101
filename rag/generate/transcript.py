"""What one request has decoded so far: tokens as committed, text as shown, why it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from rag.answer import Decode
from rag.generate.language_model import LanguageModel
from rag.generate.stop import StopStrings, TextStream

FinishReason = Literal["stop", "length", "cancelled"]


class Piece(str):
    """New text. `drafted` where a guess completed it that stood, not a token of the model's own."""

    drafted = False


class Transcript:
    """Committed tokens and the text made of them; `on_text` sees each piece once."""

    def __init__(
        self,
        model: LanguageModel,
        decode: Decode,
        max_tokens: int,
        on_text: Callable[[str], None] | None,
    ) -> None:
        self.token_ids: list[int] = []
        self._eos_ids = model.eos_ids
        self._max_tokens = max_tokens
        self._stream = TextStream(model.tokenizer.decode)
        self._stops = StopStrings(decode.stop)
        self._pieces: list[str] = []
        self._on_text = on_text
        self._drafted = False

    @property
    def text(self) -> str:
        """All the text shown so far."""
        return "".join(self._pieces)

    def commit(self, token_id: int, *, drafted: bool = False) -> FinishReason | None:
        """Take one token for good; say why the text ends with it, if it does."""
        self.token_ids.append(token_id)
        self._drafted = drafted
        if token_id in self._eos_ids:
            return "stop"
        self._show(self._stops.push(self._stream.push(token_id)))
        if self._stops.stopped:
            return "stop"
        return "length" if len(self.token_ids) >= self._max_tokens else None

    def finish(self) -> bool:
        """Show what was held back; true when that completed a stop string."""
        self._show(self._stops.push(self._stream.finish()))
        self._show(self._stops.finish())
        return self._stops.stopped

    def _show(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            if self._on_text is not None:
                told = Piece(piece)
                told.drafted = self._drafted
                self._on_text(told)

"""Which tokens a text has from its question: what a model expects there is no memory of facts."""

from __future__ import annotations

from collections.abc import Sequence

from rag.generate.language_model import Tokenizer


class QuestionWords:
    """Knows the tokens that spell pieces of a question, in upper or lower case; one request's."""

    def __init__(self, question: str, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, bool] = {}
        # A word is spelled by other tokens where a space comes before it.
        spelled = {*tokenizer.encode(question), *tokenizer.encode(f" {question}")}
        self._pieces = {piece for one in spelled if (piece := self._piece(one))}

    def has(self, token_ids: Sequence[int]) -> list[bool]:
        """Of each token whether it is a piece of the question."""
        for one in token_ids:
            if one not in self._known:
                self._known[one] = self._piece(one) in self._pieces
        return [self._known[one] for one in token_ids]

    def _piece(self, token_id: int) -> str:
        """What a token spells; nothing if that is half a character, as many then look alike."""
        piece = self._tokenizer.decode([token_id]).strip().casefold()
        return "" if "\ufffd" in piece else piece

"""Grammars: the whole text is JSON of a schema, matches a regex, or belongs to a Lark grammar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from indexes.errors import InvalidInput, Unsupported
from rag.answer import Grammar
from rag.generate.language_model import LanguageModel
from rag.generate.monitors.vocabulary import SpelledTokenizer

if TYPE_CHECKING:
    import torch

_POINTER = "/decode/grammar"

_WHITE_SPACE = r"[ \n]{0,8}"
"""Between the parts of JSON: a model that has nothing to say would write spaces for ever."""


class GrammarMonitor:
    """llguidance as `rag.generate.constraint.Constraint`.

    A state is a matcher that is never fed again: the next one is a copy, which takes microseconds.
    """

    def __init__(self, grammar: Grammar, model: LanguageModel) -> None:
        from llguidance import LLMatcher

        if not model.eos_ids or not isinstance(model.tokenizer, SpelledTokenizer):
            raise Unsupported(f"{model.name} cannot be held to a grammar")
        self._n_tokens = model.vocabulary_size
        self._eos_ids = model.eos_ids
        tokens = model.tokenizer.grammar_tokens(self._n_tokens, self._eos_ids)
        self._start = LLMatcher(tokens, _source(grammar), log_level=0)
        _check(self._start)

    def start(self, _prompt_ids: Sequence[int]) -> Any:
        """The matcher before the first token."""
        return self._start

    def advance(self, state: Any, token_id: int) -> Any:
        """A matcher one token further."""
        if token_id in self._eos_ids:
            return state
        following = state.deep_copy()
        following.consume_token(token_id)
        _check(following)
        return following

    def keep(self, state: Any) -> torch.Tensor:
        """Tokens after which the text can still become one of the language."""
        import torch

        # To ask for a mask moves a matcher, so it is a copy that is asked.
        asked = state.deep_copy()
        packed = np.frombuffer(asked.compute_bitmask(), np.uint8)
        _check(asked)
        bits = np.unpackbits(packed, bitorder="little")[: self._n_tokens]
        mask: torch.Tensor = torch.from_numpy(bits.astype(np.bool_))
        return mask

    def likely(self, state: Any) -> list[int]:
        """Tokens of what must come next, in the tokenizer's own spelling; others may be legal."""
        found: list[int] = state.deep_copy().compute_ff_tokens()
        return found


def _source(grammar: Grammar) -> str:
    """The grammar as llguidance writes it. Raises `InvalidInput` unless one language is given."""
    from llguidance import LLMatcher

    given = [one for one in (grammar.json_schema, grammar.regex, grammar.lark) if one is not None]
    if len(given) != 1:
        raise InvalidInput("one of json_schema, regex and lark is given", _POINTER)
    if grammar.regex is not None:
        return str(LLMatcher.grammar_from_regex(grammar.regex))
    if grammar.lark is not None:
        return str(LLMatcher.grammar_from_lark(grammar.lark))
    try:
        schema = json.dumps(grammar.json_schema)
        return str(
            LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_pattern": _WHITE_SPACE}
            )
        )
    except ValueError as error:
        raise InvalidInput(f"the JSON schema cannot be read: {error}", _POINTER) from error


def _check(matcher: Any) -> None:
    if matcher.is_error():
        first = matcher.get_error().strip().splitlines()[0]
        raise InvalidInput(f"the grammar cannot be followed: {first}", _POINTER)

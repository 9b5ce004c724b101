"""A model folder's own fast tokenizer, made safe against special tokens spelled out in text."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex

from indexes.errors import InvalidInput, ModelError
from rag.models.safety import read_object
from rag.models.torch_runtime import quiet_transformers

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

    from rag.generate.monitors.token_trie import TokenTrie

ROLES = frozenset({"system", "user", "assistant"})
GENERIC = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})
"""Classes of `tokenizer_config.json` that add nothing to `tokenizer.json`."""


class ChatTokenizer:
    """`rag.generate.language_model.Tokenizer` over a transformers fast tokenizer.

    Text is always encoded with special tokens switched off, so `<|im_end|>` in evidence becomes
    the tokens of its letters. Only the chat template's own text yields special tokens.
    """

    def __init__(self, pretrained: Any) -> None:
        if not getattr(pretrained, "is_fast", False):
            raise ModelError("the model folder has no tokenizer.json (a fast tokenizer)")
        self._pretrained = pretrained
        self._fast: FastTokenizer = pretrained.backend_tokenizer
        self._fast.no_padding()
        self._fast.no_truncation()
        self._fast.encode_special_tokens = True
        added = self._fast.get_added_tokens_decoder()
        self._special_ids = {token.content: id_ for id_, token in added.items() if token.special}
        self._grammar_tokens: dict[tuple[int, frozenset[int]], Any] = {}
        self._control_ids = frozenset(self._special_ids.values())
        spelled = sorted(self._special_ids, key=len, reverse=True)
        self._split = regex.compile(
            f"({'|'.join(map(regex.escape, spelled))})" if spelled else "(?!)"
        )

    @property
    def special_tokens(self) -> frozenset[str]:
        """How the special tokens are spelled."""
        return frozenset(self._special_ids)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; lone surrogates become U+FFFD, special tokens stay letters."""
        ids = self._fast.encode(_encodable(text), add_special_tokens=False).ids
        # A vocabulary may still map an unknown character to a special id: never let one through.
        return [id_ for id_ in ids if id_ not in self._control_ids]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the ids, special tokens left out."""
        return str(self._fast.decode(list(token_ids), skip_special_tokens=True))

    def chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Ids of the turns under the folder's chat template; see the protocol.

        The template is rendered around random placeholders which are then replaced by the
        contents, so that what is template and what is content is never guessed from the text.
        Without a template the contents are joined by blank lines.
        """
        if not messages:
            raise InvalidInput("a chat needs at least one turn")
        unknown = {role for role, _ in messages} - ROLES
        if unknown:
            raise InvalidInput(f"unknown role {min(unknown)!r}")
        if not self._pretrained.chat_template:
            return self._begin() + self.encode("".join(f"{content}\n\n" for _, content in messages))
        mark = secrets.token_hex(16)
        contents = {f"{mark}-{number}-": text for number, (_, text) in enumerate(messages)}
        turns = [
            {"role": role, "content": placeholder}
            for (role, _), placeholder in zip(messages, contents, strict=True)
        ]
        rendered = self._render(turns)

        def fill(piece: str) -> str:
            return str(regex.sub(f"{mark}-[0-9]+-", lambda found: contents[found[0]], piece))

        ids: list[int] = []
        at = 0
        for special in self._split.finditer(rendered):
            ids += self.encode(fill(rendered[at : special.start()]))
            ids.append(self._special_ids[special[0]])
            at = special.end()
        return ids + self.encode(fill(rendered[at:]))

    @cached_property
    def trie(self) -> TokenTrie:
        """The vocabulary by its bytes. Raises `Unsupported` for a kind of tokenizer not known."""
        from rag.generate.monitors.token_bytes import token_bytes
        from rag.generate.monitors.token_trie import TokenTrie

        return TokenTrie(token_bytes(self._fast))

    def grammar_tokens(self, n_tokens: int, eos_ids: frozenset[int]) -> Any:
        """The vocabulary in llguidance's terms: half a second's work, done once."""
        from llguidance import LLTokenizer

        key = n_tokens, eos_ids
        if key not in self._grammar_tokens:
            self._grammar_tokens[key] = LLTokenizer(
                self._fast.to_str(), n_vocab=n_tokens, eos_token=sorted(eos_ids)
            )
        return self._grammar_tokens[key]

    def _render(self, turns: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        try:
            rendered = self._pretrained.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            raise InvalidInput(f"the model's chat template refuses these turns: {error}") from error
        return str(rendered)

    def _begin(self) -> list[int]:
        """The BOS token where the tokenizer itself puts one before a text."""
        ids = self._fast.encode("", add_special_tokens=True).ids
        return [id_ for id_ in ids if id_ == self._pretrained.bos_token_id]


def load_chat_tokenizer(folder: Path) -> ChatTokenizer:
    """The tokenizer of a local model `folder`. Raises `ModelError`; nothing is downloaded."""
    try:
        with quiet_transformers():
            pretrained = _kind(folder).from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"cannot load the tokenizer in {folder}: {error}") from error
    return ChatTokenizer(pretrained)


def _kind(folder: Path) -> Any:
    """The class that opens the folder's tokenizer.

    To find one by the model's architecture transformers imports much that takes seconds; where the
    folder names the generic class there is nothing to find.
    """
    config = read_object(folder / "tokenizer_config.json") or {}
    if (folder / "tokenizer.json").is_file() and config.get("tokenizer_class") in GENERIC:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def _encodable(text: str) -> str:
    """`text` with lone surrogates, which UTF-8 cannot hold, as U+FFFD."""
    return str(regex.sub(r"\p{Cs}", "\ufffd", text))

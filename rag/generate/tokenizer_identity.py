"""Whether two models mean the same text by the same token ids, as a drafter and its target must."""

from __future__ import annotations

from indexes.errors import InvalidInput
from rag.generate.language_model import LanguageModel

BLOCK_IDS = 512

PROBE = (
    "Zürich's 3.14159 — naïve façade; def f(x):\n\treturn x**2  # ok\n\n日本語 Привет мир 👍🏽 "
    "antidisestablishmentarianism 1234567890 <b>HTML</b> 'It's' \"quoted\"\r\n   the   end"
)
"""Scripts, numbers, white space and code: where tokenizers differ, they differ here."""


def check_same_tokenizer(target: LanguageModel, drafter: LanguageModel) -> None:
    """Raise `InvalidInput` unless both give every id the same text, and split text alike.

    The sizes of the vocabularies may differ by padding. Takes some 0.1 s for 50,000 tokens, so it
    is for when models are loaded; nothing is done for one and the same tokenizer.
    """
    if target.tokenizer is drafter.tokenizer:
        return
    difference = _difference(target, drafter)
    if difference:
        raise InvalidInput(
            f"{drafter.name} cannot draft for {target.name}: their {difference} differ, "
            "and drafts are made of token ids"
        )


def _difference(target: LanguageModel, drafter: LanguageModel) -> str | None:
    ours, theirs = target.tokenizer, drafter.tokenizer
    if ours.special_tokens != theirs.special_tokens:
        return "special tokens"
    if target.eos_ids != drafter.eos_ids:
        return "end-of-text tokens"
    if ours.encode(PROBE) != theirs.encode(PROBE):
        return "tokenizers"
    n_ids = max(target.vocabulary_size, drafter.vocabulary_size)
    for start in range(0, n_ids, BLOCK_IDS):
        block = range(start, min(start + BLOCK_IDS, n_ids))
        if ours.decode(block) != theirs.decode(block):
            return "vocabularies"
    return None

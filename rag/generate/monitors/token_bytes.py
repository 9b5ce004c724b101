"""The bytes that each token of a fast tokenizer stands for.

Decoding a token by itself would not do: half a character decodes to U+FFFD, and some decoders drop
a leading space. Several tokens may stand for the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from indexes.errors import Unsupported

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
_METASPACE = "\u2581"


def token_bytes(fast: Tokenizer) -> list[bytes | None]:
    """One entry an id; None for control tokens, which stand for no text, and for unused ids.

    Raises `Unsupported` for a tokenizer that is neither byte-level nor of SentencePiece's kind.
    """
    added = fast.get_added_tokens_decoder()
    spelled = {id_: spelling for spelling, id_ in fast.get_vocab(with_added_tokens=True).items()}
    to_bytes = _reader(json.loads(fast.to_str()).get("decoder"))
    found: list[bytes | None] = [None] * (max(spelled, default=-1) + 1)
    for id_, spelling in spelled.items():
        if id_ not in added:
            found[id_] = to_bytes(spelling)
        elif not added[id_].special:
            found[id_] = spelling.encode()
    return found


def _reader(decoder: dict[str, Any] | None) -> Callable[[str], bytes]:
    """How the vocabulary spells bytes, by the decoder that undoes it."""
    kinds = {step["type"] for step in _steps(decoder)}
    if "ByteLevel" in kinds:
        alphabet = _byte_alphabet()
        return lambda spelling: bytes(alphabet[ch] for ch in spelling)
    if kinds & {"ByteFallback", "Metaspace"}:
        return _sentencepiece_bytes
    raise Unsupported("monitors need a byte-level or SentencePiece tokenizer")


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    steps = decoder.get("decoders", []) if decoder["type"] == "Sequence" else [decoder]
    return [inner for step in steps for inner in (_steps(step) if "decoders" in step else [step])]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + n): byte for n, byte in enumerate(rest)
    }


def _sentencepiece_bytes(spelling: str) -> bytes:
    fallback = _BYTE_FALLBACK.fullmatch(spelling)
    if fallback:
        return bytes([int(fallback[1], 16)])
    return spelling.replace(_METASPACE, " ").encode()

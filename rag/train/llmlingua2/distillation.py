"""Data distillation (Pan et al. 2024, section 3.1): a language model leaves out what it can spare.

Texts are read in pieces that end with sentences, each is compressed by the teacher alone, and the
pairs are written one JSON line each. A killed run goes on behind the last whole line.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from indexes.files import write_durably
from indexes.sentences import sentence_spans
from rag.answer import Decode
from rag.generate.language_model import LanguageModel, Tokenizer
from rag.generating import GenerateRequest, generate_text
from rag.progress import Progress

PIECE_TOKENS = 512
"""The teacher's tokens in a piece, as in the paper."""

TEMPERATURE = 0.3

INSTRUCTION = """Shorten the text below by deleting words, under these rules:
1. Delete only words that a reader can do without.
2. Keep the remaining words in the order in which they stand.
3. Keep every remaining word exactly as it is written.
4. Use no abbreviations and no symbols or emojis in place of words.
5. Add no words of your own.
Delete as much as you can while all facts stay. Write the shortened text only.

Text: """
"""No ratio is asked for: how much can go depends on the text."""


class Pair(msgspec.Struct, frozen=True):
    """A piece of a text and what the teacher made of it."""

    text: str
    compressed: str
    teacher: str = ""


def pieces(text: str, tokenizer: Tokenizer, max_tokens: int = PIECE_TOKENS) -> Iterator[str]:
    """Runs of whole sentences of at most `max_tokens` tokens; a longer sentence stays whole."""
    first = last = 0
    for start, end in sentence_spans(text):
        if last > first and len(tokenizer.encode(text[first:end])) > max_tokens:
            yield text[first:last].strip()
            first = start
        last = end
    if text[first:last].strip():
        yield text[first:last].strip()


def distil(
    texts: Iterable[str],
    model: LanguageModel,
    out: Path,
    progress: Progress,
    *,
    n_pieces: int,
    seed: int = 0,
) -> int:
    """Add pairs to `out` until it has those of the first `n_pieces` pieces; how many are new.

    A piece is seeded by `seed` and its own text, so that it does not matter when a run stopped.
    """
    done = read_pairs(out)
    write_durably(out, b"".join(map(_line, done)))
    known = {pair.text for pair in done}
    n_new = 0
    wanted = (piece for text in texts for piece in pieces(text, model.tokenizer))
    progress.start("distilling", n_pieces, "piece")
    with out.open("ab") as file:
        for piece in itertools.islice(wanted, n_pieces):
            if piece not in known:
                known.add(piece)
                file.write(_line(Pair(piece, _compress(model, piece, seed), model.name)))
                file.flush()
                n_new += 1
            progress.advance(1)
    progress.finish()
    return n_new


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file up to a line that a kill cut short; none where there is no file."""
    pairs: list[Pair] = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            pairs.append(msgspec.json.decode(line, type=Pair))
        except msgspec.DecodeError:
            break
    return pairs


def _compress(model: LanguageModel, piece: str, seed: int) -> str:
    """What the teacher writes, at most as many tokens as it has read."""
    digest = hashlib.sha256(f"{seed} {piece}".encode("utf-8", "surrogatepass")).digest()
    decode = Decode(
        max_tokens=max(1, len(model.tokenizer.encode(piece))),
        temperature=TEMPERATURE,
        seed=int.from_bytes(digest[:4], "big") >> 1,
    )
    return generate_text(model, GenerateRequest(INSTRUCTION + piece, decode=decode)).text.strip()


def _line(pair: Pair) -> bytes:
    return msgspec.json.encode(pair) + b"\n"

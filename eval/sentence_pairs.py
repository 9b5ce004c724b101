"""Sentences that people shortened by deleting words: the measure that no label of ours has part in.

Each sentence is compressed, without a question, to the tokens that the human compression has.
`kept_f1` compares which of its words were kept: the human's are aligned with the sentence as a
teacher's are (`rag.train.llmlingua2.annotation`); of several references the best counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from eval.compressors import PARTS
from eval.lines import json_records
from eval.rouge import rouge
from indexes.errors import InvalidInput
from rag.compress.compression import Passage
from rag.compress.compressor import Compressor
from rag.compress.token_counter import TokenCounter
from rag.compress.words import Span, plain_words
from rag.progress import Progress
from rag.train.llmlingua2.annotation import annotate


class SentencePair(msgspec.Struct, frozen=True):
    """A sentence and what people made of it."""

    id: str
    text: str
    summaries: list[str]


class PairRow(msgspec.Struct, frozen=True):
    """One sentence as it went."""

    id: str
    compressed: str
    measures: dict[str, float]


def read_sentence_pairs(path: Path) -> list[SentencePair]:
    """Read JSON lines. Raises as `json_records`, and `InvalidInput` where there is no pair."""
    pairs = [pair for _, pair in json_records(path, SentencePair) if any(pair.summaries)]
    if not pairs:
        raise InvalidInput(f"{path} holds no sentence with a compression")
    return pairs


def measure_pairs(
    compressor: Compressor,
    counter: TokenCounter,
    pairs: Sequence[SentencePair],
    how: str,
    progress: Progress,
) -> list[PairRow]:
    """Compress every sentence to its first reference's number of tokens, and compare."""
    rows = []
    progress.start(how, len(pairs), "sentence")
    for pair in pairs:
        budget = len(counter.encode(pair.summaries[0]))
        options = msgspec.structs.replace(PARTS[how], target_tokens=budget)
        # llmlingua knows shares only.
        share = min(1.0, budget / max(1, len(counter.encode(pair.text))))
        options = msgspec.structs.replace(options, rate=share)
        (kept,) = compressor.compress([Passage(pair.text)], "", options, counter).texts
        measures = rouge(kept.text.text, pair.summaries)
        measures["kept_f1"] = max(kept_f1(pair.text, kept.text.text, s) for s in pair.summaries)
        measures["rate"] = kept.kept_tokens / max(1, kept.original_tokens)
        rows.append(PairRow(pair.id, kept.text.text, measures))
        progress.advance(1)
    progress.finish()
    return rows


def kept_f1(text: str, compressed: str, reference: str) -> float:
    """F1 of the words of `text` that both kept, punctuation left out; 1 where neither kept any."""
    ours, theirs = _kept(text, compressed), _kept(text, reference)
    total = len(ours) + len(theirs)
    return 2 * len(ours & theirs) / total if total else 1.0


def _kept(text: str, shortened: str) -> set[Span]:
    words = {word for word in plain_words(text) if text[word.start : word.end][0].isalnum()}
    return words & set(annotate(text, shortened).preserve)

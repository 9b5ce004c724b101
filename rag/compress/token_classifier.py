"""LLMLingua-2's scorer (Pan et al. 2024): p(preserve) of every token, from an encoder's head.

Loads what was published and any folder with a token classification head of two classes, of which
class 1 means preserve. A text is tokenised once and fed in pieces that end with sentences; pieces
of all texts share batches of like length. What the reference does otherwise, and why we do not, is
in the tests of parity.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexes.sentences import sentence_spans
from rag.compress.chunks import chunk_bounds
from rag.compress.classifier_model import PRESERVE, load_classifier, load_module
from rag.compress.classifier_tokens import ClassifierTokens, Frame, TextTokens
from rag.compress.word_scorer import Reduction, ScoredWords
from rag.compress.words import tidy
from rag.models.resolver import ResolvedModel
from rag.models.torch_runtime import Precision
from rag.retrievers.batching import token_batches
from rag.retrievers.worker_threads import WorkerThreads

QUESTION_SHARE = 0.25
"""Of a question longer than this part of what the model reads it sees the beginning."""

CPU_BATCH_TOKENS = 768
"""A batch on a CPU, padding included: larger ones compute no faster there, but pad more."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
)

Floats = NDArray[np.float32]


class _Chunk(NamedTuple):
    """Tokens [first, last) of text number `text`."""

    text: int
    first: int
    last: int


class TokenClassifier:
    """Owns a model and its tokenizer. Scoring is safe for threads: nothing is changed by it."""

    def __init__(
        self,
        model: ResolvedModel,
        *,
        cache: Path,
        device: str,
        batch_tokens: int,
        precision: Precision = "float32",
    ) -> None:
        import torch

        loaded = load_classifier(model, cache, device, precision)
        self.name = model.name
        self.sha256 = model.sha256
        self._model, self._cache = model, cache
        self._logits = loaded.logits
        self.reads_question = loaded.reads_question
        self.max_tokens = loaded.max_tokens
        self._tokens = ClassifierTokens(loaded.tokenizer)
        self._tokenizer_folder = loaded.tokenizer
        self._batch_tokens = (
            min(batch_tokens, CPU_BATCH_TOKENS) if device == "cpu" else batch_tokens
        )
        self._has_types = loaded.has_types
        self._workers = WorkerThreads(torch.get_num_threads() if device == "cpu" else 1)

    def score(
        self, texts: Sequence[str], question: str = "", by: Reduction = "mean"
    ) -> list[ScoredWords]:
        """The texts' words with the mean, or the first, of their tokens' p(preserve)."""
        read = self._tokens.read(texts)
        asked: list[int] = []
        if self.reads_question:
            asked = self._tokens.ids(question)[: int(QUESTION_SHARE * self.max_tokens)]
        found = self._preserve(texts, read, asked)
        return [
            _to_words(text, tokens, values, by)
            for text, tokens, values in zip(texts, read, found, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write a whole checkpoint of the same weights, as transformers reads it."""
        module = load_module(self._model, self._cache)
        module.config.architectures = [type(module).__name__]
        module.save_pretrained(folder)
        for name in TOKENIZER_FILES:
            if (self._tokenizer_folder / name).is_file():
                shutil.copyfile(self._tokenizer_folder / name, folder / name)

    def n_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens of its own the texts have."""
        return sum(len(read.ids) for read in self._tokens.read(texts))

    def _preserve(
        self, texts: Sequence[str], read: Sequence[TextTokens], question: list[int]
    ) -> list[Floats]:
        """p(preserve) of each token of each text: float32 `[tokens]` a text."""
        frame, lead = self._framed(question)
        room = self.max_tokens - len(lead) - len(frame.after)
        chunks = [
            _Chunk(number, first, last)
            for number, (text, tokens) in enumerate(zip(texts, read, strict=True))
            for first, last in _pieces(text, tokens, room)
        ]
        found = [np.zeros(len(tokens.ids), dtype=np.float32) for tokens in read]
        rows = [
            [*lead, *read[chunk.text].ids[chunk.first : chunk.last].tolist(), *frame.after]
            for chunk in chunks
        ]
        batches = list(token_batches([len(row) for row in rows], self._budget(rows)))
        first_type = len(frame.before) + len(question) + len(frame.between)

        def work(batch: list[int]) -> Floats:
            return self._forward([rows[place] for place in batch], first_type, frame)

        for batch, values in zip(batches, self._workers.map(work, batches), strict=True):
            for place, row in zip(batch, values, strict=True):
                text, first, last = chunks[place]
                found[text][first:last] = row[len(lead) : len(lead) + last - first]
        return found

    def _framed(self, question: list[int]) -> tuple[Frame, list[int]]:
        """The frame, and what stands before a text in it."""
        frame = self._tokens.pair_frame if self.reads_question else self._tokens.frame
        return frame, [*frame.before, *question, *frame.between]

    def _budget(self, rows: Sequence[Sequence[int]]) -> int:
        """Tokens a batch: within the limit, and so that every thread has some to do."""
        share = sum(map(len, rows)) // max(1, self._workers.n_threads)
        return max(1, min(self._batch_tokens, share))

    def _forward(self, rows: Sequence[Sequence[int]], first_type: int, frame: Frame) -> Floats:
        """One padded batch: p(preserve) float32 `[len(rows), longest]`."""
        import torch

        lengths = [len(row) for row in rows]
        ids = torch.zeros((len(rows), max(lengths)), dtype=torch.long)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = True
        padded = mask if min(lengths) < max(lengths) else None
        types = None
        if self._has_types:
            types = torch.full_like(ids, frame.text_type)
            types[:, :first_type] = frame.question_type
        with torch.inference_mode():
            logits = self._logits(ids, padded, types).float()
            found: Floats = logits.softmax(-1)[:, :, PRESERVE].cpu().numpy()
        return found


def _pieces(text: str, tokens: TextTokens, room: int) -> list[tuple[int, int]]:
    """The text's tokens in pieces that fit."""
    n_tokens = len(tokens.ids)
    if n_tokens <= room:
        return [(0, n_tokens)] if n_tokens else []
    ends = [end for _, end in sentence_spans(text)]
    sentence_ends = np.searchsorted(tokens.starts, ends).tolist()
    return list(chunk_bounds(n_tokens, room, sentence_ends, np.flatnonzero(tokens.begins).tolist()))


def _to_words(text: str, tokens: TextTokens, values: Floats, by: Reduction) -> ScoredWords:
    """Words with one score each; a word that is no more than white space is none."""
    firsts = np.flatnonzero(tokens.begins)
    if not len(firsts):
        words = tidy(text, [])
        return ScoredWords(words, [0.0] * len(words))
    starts = tokens.starts[firsts].tolist()
    scores = values[firsts]
    if by == "mean":
        sums = np.add.reduceat(values.astype(np.float64), firsts)
        scores = sums / np.diff([*firsts.tolist(), len(values)])
    words = tidy(text, starts)
    # A start may lie in white space, and `tidy` may have passed over some: a word has the score of
    # the last start that is not after its own.
    own = np.searchsorted(starts, [word.start for word in words], side="right") - 1
    return ScoredWords(words, scores[np.maximum(own, 0)].tolist())

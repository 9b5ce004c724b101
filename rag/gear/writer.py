"""What the fused question says of a document, in words: an answer, or the relevant sentence.

The decoder sees the fused question only. What it writes freely may be in no document; copied text
is held to stretches of the document: each next token must go on as the document goes on at one of
the places where what was written so far stands. So copied text has a place of its own there. A
copied answer is held to the sentence that is pointed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from rag.gear.fusion import Memory
from rag.gear.locator import Locator
from rag.gear.reading import ReadDocument, ReadQuestion

BEAMS = 4
MAX_TOKENS = 40


class Written(NamedTuple):
    """A text; where it is copied, its place in the document, [start, end) in code points."""

    text: str
    start: int | None = None
    end: int | None = None


class _Beam(NamedTuple):
    """What was written so far: its ids, their log probability, and where it stands (last token)."""

    ids: tuple[int, ...]
    score: float
    places: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Per token, the end mark included: longer texts are not worse for being longer."""
        return self.score / (len(self.ids) + 1)


class Writer:
    """Writes with a locator's model."""

    def __init__(self, locator: Locator) -> None:
        self._locator = locator
        self._network, self._tokens = locator.network, locator.tokens

    def answer(self, question: str, document: tuple[str, str], *, copied: bool = True) -> Written:
        """What answers the question in the document (title, text). Empty where it has no token."""
        return self._write(question, document, self._tokens.answer_mark, copied=copied)

    def sentence(self, question: str, document: tuple[str, str], *, copied: bool = True) -> Written:
        """What the document says about the question."""
        return self._write(question, document, self._tokens.sentence_mark, copied=copied)

    def _write(
        self, question: str, document: tuple[str, str], mark: int, *, copied: bool
    ) -> Written:
        asked = self._tokens.question(question, self._locator.shape.max_question_tokens)
        with torch.inference_mode():
            (read,) = self._locator.read([document])
            fused = Memory(self._locator.fuse(asked, [read]).states, None)
            source = None
            if copied:
                pointed = mark == self._tokens.answer_mark and read.sentences
                source = _Source(read, self._pointed_at(asked, read) if pointed else None)
            best = self._search(fused, mark, source)
        if best is None:
            return Written("")
        if source is None:
            return Written(self._tokens.text(best.ids))
        last = best.places[0]
        start, end = read.places[last - len(best.ids) + 1][0], read.places[last][1]
        return Written(document[1][start:end], start, end)

    def _pointed_at(self, asked: ReadQuestion, read: ReadDocument) -> int:
        shares = self._locator.shares(asked, [read], self._locator.shape.aggregation)
        return int(shares[0].argmax())

    def _search(self, fused: Memory, mark: int, source: _Source | None) -> _Beam | None:
        """Beam search; the best of what came to its end, by mean log probability."""
        beams = [_Beam((), 0.0, ())]
        done: list[_Beam] = []
        for _ in range(MAX_TOKENS):
            scores = self._next([(mark, *beam.ids) for beam in beams], fused)
            grown: list[_Beam] = []
            for beam, row in zip(beams, scores, strict=True):
                if beam.ids:
                    end = float(row[self._tokens.last])
                    done.append(beam._replace(score=beam.score + end))
                grown += self._grown(beam, row, source)
            beams = sorted(grown, key=lambda beam: -beam.score)[:BEAMS]
            best = max((beam.mean for beam in done), default=-torch.inf)
            # A beam's mean can still rise, but not above its sum over the most it may be long.
            if not beams or max(beam.score for beam in beams) / (MAX_TOKENS + 1) < best:
                break
        return max(done, key=lambda beam: beam.mean, default=None)

    def _grown(self, beam: _Beam, row: torch.Tensor, source: _Source | None) -> Iterator[_Beam]:
        if source is None:
            best = row.topk(BEAMS + 1)
            for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                if token != self._tokens.last:
                    yield _Beam((*beam.ids, token), beam.score + value, ())
            return
        follows = source.follows(beam.places if beam.ids else None)
        for token, places in follows.items():
            yield _Beam((*beam.ids, token), beam.score + float(row[token]), places)

    def _next(self, prefixes: Sequence[Sequence[int]], fused: Memory) -> torch.Tensor:
        """Log probabilities `[beams, V]` of the next token."""
        ids = torch.tensor(prefixes, device=fused.states.device)
        memory = Memory(fused.states.expand(len(prefixes), -1, -1), None)
        states = self._network.decode(ids, memory)[:, -1]
        words = self._network.base.words.weight
        return self._network.decoder.logits(states, words).float().log_softmax(-1).cpu()


class _Source:
    """The document's own tokens, or those of one sentence of it, and what follows them."""

    def __init__(self, read: ReadDocument, sentence: int | None) -> None:
        self._ids = read.ids
        self._may = [owner >= 0 if sentence is None else owner == sentence for owner in read.owners]

    def follows(self, places: Sequence[int] | None) -> dict[int, tuple[int, ...]]:
        """Token → places; None: it may begin anywhere. Nothing goes on past a window's end."""
        found: dict[int, list[int]] = {}
        nexts = range(len(self._ids)) if places is None else [place + 1 for place in places]
        for place in nexts:
            if place < len(self._ids) and self._may[place]:
                found.setdefault(self._ids[place], []).append(place)
        return {token: tuple(there) for token, there in found.items()}

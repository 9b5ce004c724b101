"""QMSum (Zhong et al. 2021): questions about a meeting, each with the turns that answer it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from indexes.errors import InvalidInput, MalformedInput
from indexes.files import sha256_of
from rag.compress.words import Span
from rag.train.llmlingua2.recipe import MeetingSource

STRETCH_WORDS = 130
"""Turns are put together up to this many words: about as long as a passage."""

MIN_WORDS = 30


class Stretch(msgspec.Struct, frozen=True):
    """Consecutive turns of a meeting as one text; `turns` are its lines."""

    text: str
    turns: list[Span]


class MeetingQuestion(msgspec.Struct, frozen=True):
    """A question, its summary, numbers of stretches that lie in its turns and that lie outside."""

    text: str
    summary: str
    inside: list[int]
    outside: list[int]


class Meetings(msgspec.Struct, frozen=True):
    """A file as read."""

    source: MeetingSource
    stretches: list[Stretch]
    questions: list[MeetingQuestion]
    sha256: str


class _Turn(msgspec.Struct, frozen=True):
    speaker: str
    content: str


class _Query(msgspec.Struct, frozen=True):
    query: str
    answer: str
    relevant_text_span: list[tuple[str, str]]


class _Meeting(msgspec.Struct, frozen=True):
    meeting_transcripts: list[_Turn]
    specific_query_list: list[_Query] = []


def read_meetings(data: Path, source: MeetingSource) -> Meetings:
    """Read a file. Raises `InvalidInput` when it is absent, `MalformedInput` when damaged."""
    path = data / source.file
    if not path.is_file():
        raise InvalidInput(f"training data {source.name!r}: {path} is absent")
    stretches: list[Stretch] = []
    questions: list[MeetingQuestion] = []
    for meeting in _records(path):
        first = len(stretches)
        turns = meeting.meeting_transcripts
        ranges = list(_ranges(turns))
        stretches += [_stretch(turns[start:end]) for start, end in ranges]
        for query in meeting.specific_query_list:
            spans = [(int(a), int(b) + 1) for a, b in query.relevant_text_span]
            inside = [
                first + number
                for number, (start, end) in enumerate(ranges)
                if any(a <= start and end <= b for a, b in spans)
            ]
            outside = [
                first + number
                for number, (start, end) in enumerate(ranges)
                if not any(max(a, start) < min(b, end) for a, b in spans)
            ]
            if inside and outside:
                questions.append(MeetingQuestion(query.query, query.answer, inside, outside))
    if not questions:
        raise InvalidInput(f"training data {source.name!r}: no question has relevant turns")
    facts = [msgspec.to_builtins(source), sha256_of(path)]
    digest = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
    return Meetings(source, stretches, questions, digest)


def _records(path: Path) -> Iterator[_Meeting]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    decoder = msgspec.json.Decoder(_Meeting)
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            yield decoder.decode(line)
        except msgspec.DecodeError as error:
            raise MalformedInput(f"{path.name}:{number}: {error}") from error


def _ranges(turns: list[_Turn]) -> Iterator[tuple[int, int]]:
    """Turns [start, end) of each stretch; what is too short to be one is left out."""
    start = n_words = 0
    for number, turn in enumerate(turns, start=1):
        n_words += len(turn.content.split())
        if n_words >= STRETCH_WORDS:
            yield start, number
            start, n_words = number, 0
    if n_words >= MIN_WORDS:
        yield start, len(turns)


def _stretch(turns: list[_Turn]) -> Stretch:
    lines = [f"{turn.speaker}: {turn.content}" for turn in turns]
    spans, at = [], 0
    for line in lines:
        spans.append(Span(at, at + len(line)))
        at += len(line) + 1
    return Stretch("\n".join(lines), spans)

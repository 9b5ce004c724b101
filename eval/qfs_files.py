"""Query-focused summaries: QMSum, SQuALITY and DebatePedia files.

* QMSum (Zhong et al. 2021): meetings, each with general and specific queries and one summary each.
* SQuALITY (Wang et al. 2022): stories, each with questions and four summaries each.
* DebatePedia (Nema et al. 2017): a short text, a query and a one-line summary a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from eval.lines import json_records
from eval.question_set import distinct
from indexes.errors import InvalidInput


class Summary(msgspec.Struct, frozen=True):
    """One query about one source, with its reference summaries."""

    id: str
    query: str
    references: tuple[str, ...]
    source: str


class SummarySet(msgspec.Struct, frozen=True):
    """The queries of one file, and the whole text of each source by its id."""

    name: str
    summaries: list[Summary]
    sources: dict[str, str]


class _Turn(msgspec.Struct, frozen=True):
    speaker: str
    content: str


class _MeetingQuery(msgspec.Struct, frozen=True):
    query: str
    answer: str


class _Meeting(msgspec.Struct, frozen=True):
    meeting_transcripts: list[_Turn]
    meeting_id: str = ""
    general_query_list: list[_MeetingQuery] = []
    specific_query_list: list[_MeetingQuery] = []


class _Response(msgspec.Struct, frozen=True):
    response_text: str


class _StoryQuestion(msgspec.Struct, frozen=True):
    question_text: str
    responses: list[_Response]


class _Story(msgspec.Struct, frozen=True):
    document: str
    questions: list[_StoryQuestion]


class _Debate(msgspec.Struct, frozen=True):
    document: str
    query: str
    summary: str


Asked = Iterator[tuple[str, tuple[str, ...]]]
"""(query, references) of one source."""


def read_summaries(path: Path) -> SummarySet:
    """Read a file of JSON lines; which data set it is, its first record tells.

    Raises `NotFound`, `MalformedInput`, and `InvalidInput` for another shape or an empty file.
    """
    kind, text_of, asked_of = _reader(path)
    sources: dict[str, str] = {}
    summaries: list[Summary] = []
    for number, record in json_records(path, kind):
        source = f"s{number:05d}"
        sources[source] = text_of(record)
        for place, (query, references) in enumerate(asked_of(record)):
            if not query.strip() or not references:
                raise InvalidInput(f"{path}, line {number}: a query or its summary is blank")
            summaries.append(Summary(f"{source}-{place}", query, references, source))
    if not summaries:
        raise InvalidInput(f"{path} holds no query")
    return SummarySet(path.name.split(".")[0], summaries, sources)


def _reader(path: Path) -> tuple[type[Any], Callable[[Any], str], Callable[[Any], Asked]]:
    first = next((record for _, record in json_records(path, dict)), {})
    if "meeting_transcripts" in first:
        return _Meeting, _meeting_text, _meeting_asked
    if "questions" in first:
        return _Story, _document, _story_asked
    if "summary" in first:
        return _Debate, _document, _debate_asked
    raise InvalidInput(f"{path} is neither QMSum, SQuALITY nor DebatePedia")


def _meeting_text(meeting: _Meeting) -> str:
    return "\n".join(f"{turn.speaker}: {turn.content}" for turn in meeting.meeting_transcripts)


def _meeting_asked(meeting: _Meeting) -> Asked:
    for one in (*meeting.general_query_list, *meeting.specific_query_list):
        yield one.query, distinct([one.answer])


def _document(record: _Story | _Debate) -> str:
    return record.document


def _story_asked(story: _Story) -> Asked:
    for question in story.questions:
        yield question.question_text, distinct(one.response_text for one in question.responses)


def _debate_asked(debate: _Debate) -> Asked:
    yield debate.query, distinct([debate.summary])

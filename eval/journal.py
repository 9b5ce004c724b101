"""Answers on disk as they come, so that a run that was killed goes on where it stopped.

The journal lies beside the file of answers and goes when that is written. A line is an answer with
the hash of all that made it (the index, the configuration, the models, the request): what anything
else made is not used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from eval.ask import AnswerPlan
from eval.configuration import (
    answer_config,
    digest_of,
    generator_facts,
    index_config,
    search_config,
)
from eval.stored_run import tool_version
from rag.answer import AnswerRequest, AnswerResponse
from rag.service import Service

ENDING = ".partial"


class JournalEntry(msgspec.Struct, frozen=True):
    """One answer. `cold_start_ms` is given for the first one of each process."""

    made_by: str
    response: AnswerResponse
    cold_start_ms: float | None = None


class Journal:
    """The answers so far; owns the file that more are written to.

    A line that a kill cut short is dropped, and with it what follows.
    """

    def __init__(self, path: Path, made_by: str) -> None:
        self._made_by = made_by
        self._entries: dict[str, JournalEntry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._read()

    def find(self, request: AnswerRequest) -> JournalEntry | None:
        """The request's answer, if it is there."""
        return self._entries.get(self._key(request))

    def add(
        self, request: AnswerRequest, response: AnswerResponse, cold_start_ms: float | None
    ) -> None:
        """Keep an answer; it is out of the process' hands before this returns."""
        entry = JournalEntry(self._key(request), response, cold_start_ms)
        self._file.write(msgspec.json.encode(entry) + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _key(self, request: AnswerRequest) -> str:
        return digest_of(self._made_by, request)

    def _read(self) -> None:
        decoder = msgspec.json.Decoder(JournalEntry)
        self._file.seek(0)
        whole = 0
        for line in self._file:
            try:
                entry = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            if not line.endswith(b"\n"):
                break
            self._entries[entry.made_by] = entry
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(whole)


@contextmanager
def answer_journal(
    out: Path | None, service: Service, index: str, plan: AnswerPlan
) -> Iterator[Journal | None]:
    """The journal of the answers that will be written to `out`; None where they are not.

    It is removed when the block ends well, by when they have to be written. Raises `ModelError`
    when the language model is not here.
    """
    if out is None:
        yield None
        return
    manifest = service.snapshot(index).manifest
    made_by = digest_of(
        [manifest.corpus_sha256, manifest.version],
        index_config(manifest),
        search_config(manifest, plan.search),
        answer_config(plan, service.settings),
        generator_facts(service.settings),
        tool_version(),
    )
    path = out.with_name(out.name + ENDING)
    journal = Journal(path, made_by)
    try:
        yield journal
    finally:
        journal.close()
    path.unlink()

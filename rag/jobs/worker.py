"""The process that builds: `python -m rag.jobs.worker SETTINGS`. Ends when no job is left.

It lives in a session of its own, so that it outlives the server that started it. A second worker
waits until the first has ended, then looks for what is left.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from indexes.analyzer import AnalyzerConfig
from indexes.errors import (
    Cancelled,
    Conflict,
    EvidentError,
    IndexLocked,
    InputError,
    UsageError,
)
from indexes.passages import PassageConfig
from rag.build import BuildReport, BuildRequest, build_index
from rag.config import Settings, load_settings
from rag.jobs import shelf
from rag.jobs.inputs import input_path
from rag.jobs.job import Order, Outcome
from rag.jobs.told_progress import ToldProgress
from rag.retrievers.retriever import KNOWN

logger = logging.getLogger(__name__)

LOCK = "worker.lock"
MAX_ATTEMPTS = 3
"""A job whose workers died this often is given up."""

LOCKED_S = 30.0
"""How long a job waits for somebody else who writes to its index."""

NICENESS = 10
SPOKEN = (InputError, Conflict, UsageError)
"""Errors whose own words are safe to show; the others may name paths."""


def work(settings: Settings) -> None:
    """Run every pending job, oldest first, and those that come meanwhile."""
    with _alone(settings.root):
        while orders := shelf.pending(settings.root):
            shelf.end(settings.root, orders[0].id, run(orders[0], settings))


def run(order: Order, settings: Settings) -> Outcome:
    """Build, however it ends."""
    try:
        progress = ToldProgress(settings.root, order.id)
        if progress.attempts > MAX_ATTEMPTS:
            return _failed(f"given up: {MAX_ATTEMPTS} workers died over it")
        report = _build(order, settings, progress)
    except Cancelled:
        return Outcome("cancelled", shelf.now())
    except SPOKEN as error:
        return _failed(str(error))
    except EvidentError as error:
        logger.warning("job %s: %s", order.id, error)
        return _failed(f"{error.title}: the worker's log has the reason")
    except Exception:
        logger.exception("job %s", order.id)
        return _failed("Internal error: the worker's log has the reason")
    return Outcome(
        "done",
        shelf.now(),
        index_version=report.version,
        n_documents=report.n_documents,
        n_rejected=report.n_rejected,
    )


def _build(order: Order, settings: Settings, progress: ToldProgress) -> BuildReport:
    """Build; while somebody else writes to the index, wait."""
    deadline = time.monotonic() + LOCKED_S
    while True:
        try:
            return build_index(_request(order, settings), settings, progress)
        except IndexLocked:
            if time.monotonic() > deadline:
                raise
            progress.note("waiting for somebody else who writes to the index")
            time.sleep(0.5)


def _request(order: Order, settings: Settings) -> BuildRequest:
    folder, build = shelf.job_folder(settings.root, order.id), order.build
    documents = folder / shelf.DOCUMENTS
    given = [documents] if documents.stat().st_size else []
    return BuildRequest(
        name=order.index,
        inputs=[*given, *(input_path(settings.inputs, name) for name in build.inputs)],
        retrievers=[KNOWN[name] for name in build.retrievers],
        analyzer=AnalyzerConfig(stemmer=build.stemmer, stopwords=build.stopwords),
        passages=PassageConfig(max_words=build.passage_words),
        rejects=folder / shelf.REJECTS,
        reuse=build.reuse,
    )


def _failed(error: str) -> Outcome:
    return Outcome("failed", shelf.now(), error)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One worker at a time; the kernel lets go when it dies, however it dies."""
    descriptor = os.open(shelf.jobs_folder(root) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    """Read the settings from the command line and work."""
    os.nice(NICENESS)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    work(load_settings(msgspec.json.decode(sys.argv[1]), {}))


if __name__ == "__main__":
    main()

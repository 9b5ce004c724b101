"""Jobs on the disk, under the root of the indexes: what is here survives whoever wrote it.

::

    .jobs/<id>/order.json       written before the caller is answered
               documents.jsonl  what came with the order; gone once it has ended
               cancel           there once somebody wants it to stop
               underway.json    from the worker, replaced as it goes on
               outcome.json     how it ended
               rejects.jsonl
"""

from __future__ import annotations

import re
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from indexes.errors import InvalidInput, NotFound
from indexes.files import sync_file, sync_folder, write_durably
from indexes.rejects import Reject
from rag.jobs.job import BuildOrder, Job, Order, Outcome, Underway

T = TypeVar("T")
_FIRST_PLACE = re.compile(r"(?s)first at .*/([^/]+)\Z")

FOLDER = ".jobs"
ORDER, UNDERWAY, OUTCOME = "order.json", "underway.json", "outcome.json"
DOCUMENTS, REJECTS, CANCEL = "documents.jsonl", "rejects.jsonl", "cancel"
HALF_WRITTEN = "new-"
SHOWN_REJECTS = 100
KEPT_JOBS = 1_000
"""Of jobs that have ended the newest this many can be asked about."""


def jobs_folder(root: Path) -> Path:
    """Where the jobs of the indexes under `root` are."""
    return root / FOLDER


def job_folder(root: Path, job_id: str) -> Path:
    """Where this job is, whether or not it exists."""
    return jobs_folder(root) / job_id


def place(root: Path, job_id: str, index: str, build: BuildOrder, digest: str) -> Order:
    """Keep a new order, or find the same one again. It is on the disk when this returns.

    Raises `InvalidInput` when another order has the id.
    """
    order = Order(job_id, index, now(), digest, msgspec.structs.replace(build, documents=[]))
    folder = job_folder(root, job_id)
    made = jobs_folder(root) / f"{HALF_WRITTEN}{uuid.uuid4().hex}"
    made.mkdir(parents=True)
    try:
        with (made / DOCUMENTS).open("wb") as file:
            for document in build.documents:
                file.write(msgspec.json.encode(document) + b"\n")
        sync_file(made / DOCUMENTS)
        write_durably(made / ORDER, msgspec.json.encode(order))
        # A folder that is not empty is never replaced: of two the first stays.
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    sync_folder(folder.parent)
    kept = read_order(root, job_id)
    if kept.digest != digest:
        raise InvalidInput("this Idempotency-Key was used for another build")
    return kept


def read_order(root: Path, job_id: str) -> Order:
    """The order. Raises `NotFound`."""
    order = _read(job_folder(root, job_id) / ORDER, Order)
    if order is None:
        raise NotFound(f"there is no job {job_id!r}")
    return order


def read_job(root: Path, job_id: str) -> Job:
    """All that is known of a job. Raises `NotFound`."""
    order, folder = read_order(root, job_id), job_folder(root, job_id)
    outcome = _read(folder / OUTCOME, Outcome)
    underway = _read(folder / UNDERWAY, Underway)
    job = Job(order.id, order.index, "queued", order.created)
    if underway is not None:
        job = msgspec.structs.replace(job, state="running", **msgspec.structs.asdict(underway))
    if outcome is not None:
        job = msgspec.structs.replace(job, **msgspec.structs.asdict(outcome))
    return msgspec.structs.replace(job, rejects=_rejects(folder / REJECTS))


def pending(root: Path) -> list[Order]:
    """Orders without an outcome, oldest first."""
    return _orders(root, ended=False)


def wants_cancel(root: Path, job_id: str) -> bool:
    """Whether somebody wants the job to stop."""
    return (job_folder(root, job_id) / CANCEL).exists()


def ask_cancel(root: Path, job_id: str) -> None:
    """Have the worker stop the job. Raises `NotFound`."""
    read_order(root, job_id)
    write_durably(job_folder(root, job_id) / CANCEL, b"")


def tell(root: Path, job_id: str, underway: Underway) -> None:
    """Say how far a job is."""
    write_durably(job_folder(root, job_id) / UNDERWAY, msgspec.json.encode(underway))


def attempts(root: Path, job_id: str) -> int:
    """How many workers have begun this job."""
    underway = _read(job_folder(root, job_id) / UNDERWAY, Underway)
    return 0 if underway is None else underway.attempts


def end(root: Path, job_id: str, outcome: Outcome) -> None:
    """Say how a job ended, and clear up."""
    folder = job_folder(root, job_id)
    write_durably(folder / OUTCOME, msgspec.json.encode(outcome))
    (folder / DOCUMENTS).unlink(missing_ok=True)
    for order in _orders(root, ended=True)[:-KEPT_JOBS]:
        shutil.rmtree(job_folder(root, order.id), ignore_errors=True)


def now() -> str:
    """The time in UTC, as it is written down."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _orders(root: Path, *, ended: bool) -> list[Order]:
    """Orders that have ended or not, oldest first."""
    folders = [folder for folder in jobs_folder(root).glob("*") if _is_job(folder)]
    wanted = [folder for folder in folders if (folder / OUTCOME).exists() == ended]
    found = [_read(folder / ORDER, Order) for folder in wanted]
    return sorted((o for o in found if o is not None), key=lambda order: (order.created, order.id))


def _is_job(folder: Path) -> bool:
    """Not a file, nor an order that is still being written."""
    return "." not in folder.name and not folder.name.startswith(HALF_WRITTEN)


def _read(file: Path, shape: type[T]) -> T | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=shape)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _rejects(file: Path) -> list[Reject]:
    """The first rejects, without where the server keeps its files."""
    try:
        with file.open("rb") as lines:
            rows = [line for line, _ in zip(lines, range(SHOWN_REJECTS), strict=False)]
    except FileNotFoundError:
        return []
    found = [msgspec.json.decode(row, type=Reject) for row in rows if row.endswith(b"\n")]
    return [_without_folders(reject) for reject in found]


def _without_folders(reject: Reject) -> Reject:
    reason = _FIRST_PLACE.sub(r"first at \1", reject.reason)
    return msgspec.structs.replace(reject, source=Path(reject.source).name, reason=reason)

"""Every error a person can meet, as one tree.

::

    EvidentError
    ├── UsageError              wrong flags, configuration or names          exit 2
    ├── InputError              the bytes or values given are not usable
    │   ├── MalformedInput      cannot be parsed at all
    │   ├── InvalidInput        parsed, but breaks a rule
    │   └── InputTooLarge       over a stated limit
    ├── NotFound                no such thing here
    │   ├── IndexNotFound
    │   ├── DocumentNotFound
    │   └── ModelNotFound
    ├── Conflict                someone else holds it, or it changed
    │   └── IndexLocked
    ├── StorageFull             no room left on the device
    ├── CorruptIndex            bytes on disk are not what the manifest says
    ├── ModelError              a model cannot be had or used
    │   ├── UnsafeModel         pickled weights or code from a repository
    │   └── DownloadFailed
    ├── Unsupported             a mode this backend cannot do
    ├── DeadlineExceeded
    └── Cancelled                                                            exit 130

Each class names its exit code and its problem type once. The API turns the type into a status.
"""

from __future__ import annotations

from typing import ClassVar


class EvidentError(Exception):
    """Root of the tree: `str(error)` is the sentence shown to a person."""

    exit_code: ClassVar[int] = 1
    problem: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"


class UsageError(EvidentError):
    """Wrong flags, configuration or names."""

    exit_code = 2
    problem = "usage"
    title = "Wrong usage"


class InputError(EvidentError):
    """The bytes or values given are not usable."""

    problem = "invalid-input"
    title = "Invalid input"


class MalformedInput(InputError):
    """Input that cannot be parsed at all."""

    problem = "malformed-input"
    title = "Malformed input"


class InvalidInput(InputError):
    """Input that parses but breaks a rule; `pointer` is a JSON pointer to the culprit."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class InputTooLarge(InputError):
    """Input over a stated limit."""

    problem = "too-large"
    title = "Too large"


class NotFound(EvidentError):
    """No such thing here."""

    problem = "not-found"
    title = "Not found"


class IndexNotFound(NotFound):
    """No index of that name under the root."""

    problem = "index-not-found"
    title = "Index not found"


class DocumentNotFound(NotFound):
    """No live document of that id in the index."""

    problem = "document-not-found"
    title = "Document not found"


class ModelNotFound(NotFound):
    """The catalogue has no such model and it is no local folder."""

    problem = "model-not-found"
    title = "Model not found"


class Conflict(EvidentError):
    """Someone else holds it, or it changed meanwhile."""

    problem = "conflict"
    title = "Conflict"


class IndexLocked(Conflict):
    """Another process is writing this index."""

    problem = "index-locked"
    title = "Index is being written"


class CorruptIndex(EvidentError):
    """Bytes on disk are not what the manifest says."""

    problem = "corrupt-index"
    title = "Corrupt index"


class StorageFull(EvidentError):
    """There is no room left where the index is; what was committed before is whole."""

    problem = "storage-full"
    title = "Storage is full"


class ModelError(EvidentError):
    """A model cannot be had or used."""

    problem = "model-unavailable"
    title = "Model unavailable"


class UnsafeModel(ModelError):
    """Pickled weights, or code that a model repository wants to run."""

    problem = "unsafe-model"
    title = "Unsafe model"


class DownloadFailed(ModelError):
    """The registry could not be reached or sent something else than expected."""

    problem = "download-failed"
    title = "Download failed"


class Unsupported(EvidentError):
    """A mode that this backend or index cannot do."""

    problem = "unsupported"
    title = "Unsupported"


class DeadlineExceeded(EvidentError):
    """The request's `timeout_ms` ran out."""

    problem = "deadline-exceeded"
    title = "Deadline exceeded"


class Cancelled(EvidentError):
    """Interrupted by the person who asked."""

    exit_code = 130
    problem = "cancelled"
    title = "Cancelled"

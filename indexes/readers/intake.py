"""What every reader shares: from a record to a checked document, rejects and progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from indexes.document import Document, check_document
from indexes.errors import InvalidInput
from indexes.readers.sources import Source
from indexes.rejects import Rejects

_ID_FIELDS: Final = ("id", "_id")
_TEXT_FIELDS: Final = ("text", "contents", "body")
_TITLE_FIELDS: Final = ("title",)


class ReaderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How files are read.

    The three `*_field` name a record's fields; None takes the first there is of `id`, `_id`; of
    `text`, `contents`, `body`; `title`. A longer line or text file than `max_document_bytes`
    (after decompression) is rejected rather than held; a PDF gets `pdf_timeout_s` seconds.
    """

    id_field: str | None = None
    text_field: str | None = None
    title_field: str | None = None
    max_document_bytes: int = 64 << 20
    pdf_timeout_s: float = 60.0


class Read(msgspec.Struct, frozen=True):
    """A document and where it came from; `line` as in `Reject`."""

    document: Document
    source: str
    line: int | None


class Intake:
    """One run's way in: its configuration, its reject file, its progress."""

    def __init__(
        self, config: ReaderConfig, rejects: Rejects, on_bytes: Callable[[int], None] | None
    ) -> None:
        self.config = config
        self._rejects = rejects
        self._on_bytes = on_bytes
        self._source: Source | None = None
        self._reported = 0

    def begin(self, source: Source) -> None:
        """The bytes reported from now on are this file's."""
        self._source = source
        self._reported = 0

    def reached(self, position: int) -> None:
        """The file has been read up to this byte on disk."""
        if self._on_bytes and position > self._reported:
            self._on_bytes(position - self._reported)
            self._reported = position

    def finish(self) -> None:
        """The file is done with, read to its end or given up: its remaining bytes count too."""
        if self._source is not None:
            self.reached(self._source.n_bytes)

    def reject(
        self, source: Source, line: int | None, reason: str, document_id: str | None = None
    ) -> None:
        """Note what could not be read."""
        self._rejects.add(str(source.path), line, document_id, reason)

    def accept(self, record: object, source: Source, line: int) -> Read | None:
        """A record's document, or None after noting in the rejects why there is none."""
        document_id: str | None = None
        try:
            fields = _fields_of(record)
            document_id = _id_of(fields, self.config.id_field)
            document = _document_of(document_id, fields, self.config)
            check_document(document)
        except InvalidInput as error:
            self.reject(source, line, str(error), document_id)
            return None
        return Read(document, str(source.path), line)

    def accept_page(self, title: str, text: str, source: Source) -> Read | None:
        """A whole file's document: its id is the file's path below the folder given."""
        if not text.strip():
            self.reject(source, None, "no text was found in the file", source.name)
            return None
        document = Document(source.name, text, title)
        try:
            check_document(document)
        except InvalidInput as error:
            self.reject(source, None, str(error), source.name)
            return None
        return Read(document, str(source.path), None)


def _fields_of(record: object) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise InvalidInput("the record is not an object")
    return record


def _document_of(document_id: str, record: Mapping[str, Any], config: ReaderConfig) -> Document:
    """The document of a record; all fields that are not id, title or text become metadata."""
    text_name = _present(record, config.text_field, _TEXT_FIELDS)
    title_name = _present(record, config.title_field, _TITLE_FIELDS)
    text = _string(record, text_name)
    title = _string(record, title_name)
    used = {_present(record, config.id_field, _ID_FIELDS), text_name, title_name}
    rest = {name: value for name, value in record.items() if name not in used}
    nested = rest.get("metadata")
    if isinstance(nested, Mapping):
        del rest["metadata"]
        rest = {**nested, **rest}
    return Document(document_id, text, title, rest)


def _id_of(record: Mapping[str, Any], chosen: str | None) -> str:
    name = _present(record, chosen, _ID_FIELDS)
    value = None if name is None else record[name]
    if value is None:
        wanted = chosen or " or ".join(_ID_FIELDS)
        raise InvalidInput(f"the id is missing (field {wanted})", "/id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidInput(f"the id is no string but {_kind(value)}", "/id")
    return value


def _present(record: Mapping[str, Any], chosen: str | None, usual: tuple[str, ...]) -> str | None:
    return next((name for name in ((chosen,) if chosen else usual) if name in record), None)


def _string(record: Mapping[str, Any], name: str | None) -> str:
    value = None if name is None else record[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f"the field {name} is no string but {_kind(value)}", f"/{name}")
    return value


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value), "an object" if isinstance(value, Mapping) else "something else")

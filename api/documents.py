"""`/v1/indexes/{name}/documents/{id}`: one document, read, put or deleted."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import Request, delete, put, route
from litestar.params import FromPath
from msgspec import Meta

from api.backend import InjectedBackend
from api.body import read_body
from api.endpoint import BODY_PROBLEMS, Endpoint, documented
from api.names import checked_name
from api.request_id import request_id_of
from indexes.document import MAX_ID_CHARS, Document
from indexes.errors import DocumentNotFound, InvalidInput

PATH = "/v1/indexes/{name:str}/documents/{id:path}"
MAX_TITLE_CHARS = 10_000
EXAMPLES = {
    "simple": {"text": "Penicillin was discovered by Alexander Fleming in 1928."},
    "whole": {
        "title": "Penicillin",
        "text": "It was discovered by Alexander Fleming in 1928.",
        "metadata": {"year": 1928},
    },
}


class DocumentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the document with the path's id shall be. Title or text must say something."""

    text: str = ""
    title: Annotated[str, Meta(max_length=MAX_TITLE_CHARS)] = ""
    metadata: dict[str, Any] = {}


class DocumentReply(msgspec.Struct, frozen=True):
    """A document as it is in the index."""

    request_id: str
    index: str
    index_version: int
    document: Document


class DocumentChanged(msgspec.Struct, frozen=True):
    """The change is on the disk and in every search from now on; `index_version` has it."""

    request_id: str
    index: str
    index_version: int
    id: str
    n_documents: int


@route(
    PATH,
    http_method=["GET", "HEAD"],
    opt=documented(
        Endpoint(
            summary="Read a document",
            response=DocumentReply,
            tag="indexes",
            problems=(404, 429),
        )
    ),
)
async def read_document(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> DocumentReply:
    """The whole document, not only a passage of it."""
    name, key = checked_name(name), _key(request)
    found = await backend.compute(partial(backend.service.document, name, key))
    return DocumentReply(request_id_of(request.scope), name, *found)


@put(
    PATH,
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Add or replace a document",
            response=DocumentChanged,
            tag="indexes",
            request=DocumentBody,
            problems=(*BODY_PROBLEMS, 409, 507),
            examples=EXAMPLES,
            scope="write",
        )
    ),
)
async def put_document(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> DocumentChanged:
    """409 while another process writes to the index."""
    name, key = checked_name(name), _key(request)
    body = await read_body(request, DocumentBody, backend.limits)
    document = Document(key, body.text, body.title, body.metadata)
    changed = await backend.compute(partial(backend.service.put_document, name, document))
    return DocumentChanged(request_id_of(request.scope), name, changed[0], key, changed[1])


@delete(
    PATH,
    status_code=200,
    opt=documented(
        Endpoint(
            summary="Delete a document",
            response=DocumentChanged,
            tag="indexes",
            problems=(404, 409, 429, 507),
            scope="write",
        )
    ),
)
async def delete_document(
    request: Request[Any, Any, Any], backend: InjectedBackend, name: FromPath[str]
) -> DocumentChanged:
    """404 for a document that is not there."""
    name, key = checked_name(name), _key(request)
    changed = await backend.compute(partial(backend.service.delete_document, name, key))
    return DocumentChanged(request_id_of(request.scope), name, changed[0], key, changed[1])


def _key(request: Request[Any, Any, Any]) -> str:
    """The id as it was escaped: a decoded path could not tell `a%2Fb` from two segments.

    Raises `DocumentNotFound` for what is no UTF-8 or too long to be an id.
    """
    raw = request.scope["raw_path"].partition(b"?")[0].partition(b"/documents/")[2]
    try:
        key = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentNotFound("no document's id is like that: it is not UTF-8") from error
    if not key or len(key) > MAX_ID_CHARS:
        if request.method == "PUT":
            raise InvalidInput(f"an id has 1 to {MAX_ID_CHARS} characters")
        raise DocumentNotFound(f"an id has 1 to {MAX_ID_CHARS} characters")
    return key

"""A request body: from untrusted bytes to a typed struct, or to an error that says where.

The order is fixed, so that one body always gets one answer: media type (415), size (413), UTF-8,
nesting and JSON grammar (400), then types and bounds (422). Of a key given twice the last wins.
"""

from __future__ import annotations

import asyncio
import re
from itertools import accumulate
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.status_codes import HTTP_415_UNSUPPORTED_MEDIA_TYPE

from api.limits import Limits
from api.pointer import split_message
from indexes.errors import InputTooLarge, InvalidInput, MalformedInput

T = TypeVar("T")

INLINE_BYTES = 64 * 1024
"""Bodies up to this size are decoded on the event loop, larger ones in a thread."""

# Possessive and with an optional closing quote: an unterminated string is swallowed in one go, so
# the scan stays linear whatever the bytes.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_A_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


async def read_body(request: Request[Any, Any, Any], shape: type[T], limits: Limits) -> T:
    """The body as a `shape`.

    Raises `InputTooLarge` over the limit that the app was given, `MalformedInput`,
    `InvalidInput`, and HTTP's 415 for anything but plain UTF-8 JSON.
    """
    _check_media_type(request)
    try:
        body = await request.body()
    except RequestEntityTooLarge as error:
        raise InputTooLarge(f"the body has over {limits.max_body_bytes} bytes") from error
    if len(body) <= INLINE_BYTES:
        return decode(body, shape, limits.max_json_depth)
    return await asyncio.to_thread(decode, body, shape, limits.max_json_depth)


def decode(body: bytes, shape: type[T], max_depth: int) -> T:
    """Parse and validate. Raises `MalformedInput` or `InvalidInput` with a JSON pointer."""
    if not body:
        raise MalformedInput("the body is empty: a JSON object is expected")
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"the body is not UTF-8: bad byte at {error.start}") from error
    if nested_deeper(body, max_depth):
        raise MalformedInput(f"the JSON is nested deeper than {max_depth} levels")
    try:
        # First without a type: the grammar of the whole body counts before the type of a part.
        msgspec.json.decode(body)
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        what, pointer = split_message(str(error))
        raise InvalidInput(what, pointer) from error
    except msgspec.DecodeError as error:
        raise MalformedInput(_sentence(error)) from error


def nested_deeper(body: bytes, max_depth: int) -> bool:
    """Whether brackets outside strings nest deeper than `max_depth`. Linear, no recursion."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return False
    brackets = _STRING.sub(b"", body).translate(None, _NOT_A_BRACKET)
    return any(depth > max_depth for depth in accumulate(map(_STEP.__getitem__, brackets)))


def _sentence(error: msgspec.DecodeError) -> str:
    """The decoder's words; where they give no place, the input ended too early."""
    words = str(error)
    if words == "Input data was truncated":
        return "the JSON ends too early, or a string ends in half a surrogate pair"
    return words


def _check_media_type(request: Request[Any, Any, Any]) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise _unsupported(f"the body must not be encoded as {encoding[:64]!r}")
    given = request.headers.get("content-type", "")
    media_type, *parameters = [part.strip().lower() for part in given.split(";")]
    if media_type != "application/json":
        raise _unsupported(f"the body must be application/json, not {media_type[:64]!r}")
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    if any(charset not in {"utf-8", "utf8"} for charset in charsets):
        raise _unsupported("the body must be in UTF-8")


def _unsupported(detail: str) -> HTTPException:
    return HTTPException(detail=detail, status_code=HTTP_415_UNSUPPORTED_MEDIA_TYPE)

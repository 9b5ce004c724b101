"""`python -m api.describe > openapi.json`: the OpenAPI document as it is committed."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import cast

import msgspec

from api.app import create_app
from api.backend import SearchService
from api.limits import Limits
from api.openapi import openapi_document


def described() -> bytes:
    """The document, indented; no service is needed for it."""
    app = create_app(cast("SearchService", None), Limits())
    document = openapi_document(app.routes, version("evident-rag"))
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(described())

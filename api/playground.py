"""`GET /`: one page to ask questions on, without a build step and without outside assets."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from litestar import Response, route
from litestar.handlers import HTTPRouteHandler

from api.endpoint import SCOPE_KEY

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


def playground_route() -> HTTPRouteHandler:
    """The handler of the page, read once.

    Its content security policy admits the page's own script and style by their digests, requests
    to this server, and nothing else.
    """
    page = files("api").joinpath("playground.html").read_bytes()
    headers = {
        "Content-Security-Policy": policy_of(page),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    @route("/", http_method=["GET", "HEAD"], sync_to_thread=False, opt={SCOPE_KEY: None})
    def playground() -> Response[bytes]:
        """The page."""
        return Response(page, media_type="text/html", headers=headers)

    return playground


def policy_of(page: bytes) -> str:
    """The policy for a page whose script and style stand in it.

    Widths and colours of bars are set through the style attribute's object model, which needs no
    exception.
    """
    digests: dict[str, str] = {}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        digests[kind.decode()] = f"'sha256-{digest}'"
    parts = [
        "default-src 'none'",
        f"script-src {digests['script']}",
        f"style-src {digests['style']}",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(parts)

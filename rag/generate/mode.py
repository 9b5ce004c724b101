"""Which mode answers, where the request leaves it open."""

from __future__ import annotations

from typing import Literal

from rag.answer import Decode

Mode = Literal["free", "momentum", "extract"]


def choose_mode(decode: Decode) -> Mode:
    """The mode of the request; on `auto` free."""
    if decode.mode != "auto":
        return decode.mode
    return "free"

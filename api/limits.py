"""What one request may cost, and how many run at once."""

from __future__ import annotations

import msgspec

from rag.config import Settings


class Limits(msgspec.Struct, frozen=True):
    """Bounds of the service; published at `/v1/info`.

    Answers are written in `max_concurrency` threads, up to `max_queue` more wait their turn;
    searches and all other short work run in `max_searches`, and `max_search_queue` may wait.
    Of builds `max_pending_jobs` may be ordered and not yet ended.
    """

    max_body_bytes: int = 4 * 1024 * 1024
    max_json_depth: int = 64
    max_concurrency: int = 16
    max_searches: int = 8
    max_queue: int = 64
    max_search_queue: int = 128
    max_pending_jobs: int = 32


def limits_from(settings: Settings) -> Limits:
    """The part of the settings that bounds requests."""
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        max_concurrency=settings.max_concurrency,
        max_searches=settings.max_searches,
        max_queue=settings.max_queue,
        max_search_queue=settings.max_search_queue,
    )

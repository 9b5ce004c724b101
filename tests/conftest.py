"""Property tests: `make check` tries fewer examples of each."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fast", max_examples=20)

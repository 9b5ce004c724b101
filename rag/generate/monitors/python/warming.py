"""What most programs ask for sooner or later, to be asked beforehand while nobody asks.

The first question about a module reads its stub and lists what is in it, which takes ten times as
long as any later one: up to half a second.
"""

from __future__ import annotations

from collections.abc import Iterator

MODULES = (
    "os", "os.path", "sys", "re", "typing", "collections", "pathlib", "functools", "itertools",
    "json", "logging", "dataclasses", "enum", "abc", "datetime", "time", "io", "contextlib",
    "collections.abc", "types", "inspect", "asyncio", "threading", "subprocess", "math", "random",
    "string", "shutil", "tempfile", "warnings", "copy", "operator", "urllib.parse", "socket", "ssl",
    "hashlib", "base64", "struct", "uuid", "decimal", "platform", "traceback", "argparse", "csv",
    "queue", "concurrent.futures", "unittest", "textwrap", "signal", "heapq",
)  # fmt: skip
"""Of the standard library, by how often they are imported; roughly."""

VALUES = ("''", "b''", "1", "1.0", "[]", "{}", "()", "{1}", "None", "open(__file__)", "object()")


def warming_texts() -> Iterator[str]:
    """Programs that end in a point, the likeliest first."""
    for value in VALUES:
        yield f"value = {value}\nvalue."
    for module in MODULES:
        yield f"import {module}\n{module}."

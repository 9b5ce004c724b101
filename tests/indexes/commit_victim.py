"""Run by the kill test: one change to an index, killed at the n-th step it takes on the disk.

Usage: commit_victim.py FOLDER CHANGE STEP WHEN. Every call that changes or syncs the disk counts
as a step; at STEP the process kills itself with SIGKILL before or after making the call. Exits 0
and prints the number of steps when it was not killed.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from library import BM25, build, upsert

from indexes.document import Document
from indexes.writer import IndexWriter

OLD = [Document(f"d{n}", f"old text number {n} about cats") for n in range(6)]
NEW = [Document(f"e{n}", f"new text number {n} about dogs") for n in range(4)]
CHANGED = [Document("d0", "changed text about birds"), Document("x", "an added text")]


def change(folder: Path, name: str) -> None:
    """One of the changes people make."""
    if name == "build":
        build(folder, NEW, [BM25])
    elif name == "upsert":
        upsert(folder, CHANGED)
    else:
        with IndexWriter(folder) as writer:
            writer.compact() if name == "compact" else writer.delete(["d1", "d4"])


class Killer:
    """Counts steps and strikes at one of them."""

    def __init__(self, step: int, when: str) -> None:
        self.step, self.when, self.count = step, when, 0

    def wrap(self, owner: Any, name: str) -> None:
        """Count the calls of `owner.name`."""
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            if owner is builtins and not any(m in str(args[1:2]) for m in ("w", "a", "x", "+")):
                return real(*args, **kwargs)
            self.count += 1
            if self.count == self.step and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            mine = self.count
            try:
                return real(*args, **kwargs)
            finally:
                if mine == self.step and self.when == "after":
                    os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, counted)


def main() -> None:
    """Make the change under the killer's eyes."""
    folder, name, step, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    killer = Killer(step, when)
    for call in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate", "pwrite"):
        killer.wrap(os, call)
    killer.wrap(builtins, "open")
    change(folder, name)
    sys.stdout.write(str(killer.count))


if __name__ == "__main__":
    main()

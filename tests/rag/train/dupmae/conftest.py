"""The toy sets and checkpoints are in the folders beside."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
sys.path.insert(0, str(TESTS / "retrievers"))
sys.path.insert(0, str(TESTS / "train"))

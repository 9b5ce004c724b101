"""The arrows of the house: `indexes ← rag ← {api, eval}`, and what never enters a room."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
ROOMS = ("indexes", "rag", "api", "eval")
MAY_IMPORT = {
    "indexes": {"indexes"},
    "rag": {"indexes", "rag"},
    "api": {"indexes", "rag", "api"},
    "eval": {"indexes", "rag", "eval"},
}
NEVER = {
    "indexes": {"torch", "transformers", "sentence_transformers", "httpx", "litestar", "uvicorn"},
    "rag": {"litestar", "uvicorn", "duckdb", "faiss"},
    "api": {"torch", "transformers", "faiss", "duckdb", "numpy"},
    "eval": {"litestar", "uvicorn", "faiss", "duckdb"},
}
FILES = [path for room in ROOMS for path in sorted((TOP / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_arrows(path):
    room = path.relative_to(TOP).parts[0]
    found = imported(path)
    assert found & set(ROOMS) <= MAY_IMPORT[room]
    assert not found & NEVER[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_nothing_unpickles_or_runs_foreign_code(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "") or ""
            assert "pickle" not in {module, *(alias.name for alias in node.names)}
        if isinstance(node, ast.keyword) and node.arg in {"trust_remote_code", "allow_pickle"}:
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Attribute) and node.attr == "load":
            assert not (isinstance(node.value, ast.Name) and node.value.id == "torch")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400

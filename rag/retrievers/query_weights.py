"""Weights of query tokens without a model: inference-free queries (Geng et al. 2024).

A query is its distinct tokens; each weighs 1 (SPLADE-doc), or what a table says: inverse document
frequencies (opensearch) or learned weights (sentence-transformers' `SparseStaticEmbedding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from indexes.errors import ModelError
from indexes.files import sha256_of
from indexes.representation import Floats


def read_table(path: Path, tokens: Sequence[str]) -> Floats:
    """Weight of each token, float32 `[V]`, 0 where the table has none.

    `path` is a JSON object token → weight, a text file of `token<TAB>weight` lines, or a folder
    with one vector in a safetensors file. Raises `ModelError` when it is none of them.
    """
    try:
        if path.is_dir():
            return _from_tensors(path, len(tokens))
        weights = _from_json(path) if path.suffix == ".json" else _from_lines(path)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise ModelError(f"the query weights {path.name} cannot be read: {error}") from error
    return np.array([weights.get(token, 0.0) for token in tokens], dtype=np.float32)


def table_sha256(path: Path) -> str:
    """SHA-256 of the table's bytes: an index remembers what its queries were weighed with."""
    return sha256_of(_tensor_file(path) if path.is_dir() else path)


def _from_json(path: Path) -> dict[str, float]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, float])


def _from_lines(path: Path) -> dict[str, float]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.rsplit("\t", 1) for line in lines if line.strip()]
    return {token: float(weight) for token, weight in pairs}


def _from_tensors(folder: Path, n_tokens: int) -> Floats:
    from safetensors.numpy import load_file

    vectors = [t for t in load_file(_tensor_file(folder)).values() if t.ndim == 1]
    if len(vectors) != 1 or not np.issubdtype(vectors[0].dtype, np.floating):
        raise ModelError(f"{folder.name} does not hold one vector of weights")
    weights = np.zeros(n_tokens, dtype=np.float32)
    found = vectors[0][:n_tokens]
    weights[: len(found)] = found
    return weights


def _tensor_file(folder: Path) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise ModelError(f"{folder.name} holds no table of query weights")
    return files[0]

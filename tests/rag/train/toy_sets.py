"""Toy data sets in BEIR layout, written in the toy checkpoints' words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WORDS = ["cat", "dog", "fish", "bird", "tree", "river", "stone", "cloud", "tiger", "oak"]
N_DOCUMENTS = 40


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_qrels(path: Path, rows: list[tuple[str, str, int]]) -> None:
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_toy(folder: Path, n_documents: int = N_DOCUMENTS, seed: int = 0) -> Path:
    """Documents of random words; each question is three words of its document."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    texts = [" ".join(generator.choice(WORDS, 9)) for _ in range(n_documents)]
    write_jsonl(
        folder / "corpus.jsonl",
        [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)],
    )
    questions = [" ".join(generator.choice(text.split(), 3)) for text in texts]
    write_jsonl(
        folder / "queries.jsonl",
        [{"_id": f"q{n}", "text": f"{text} . {n}"} for n, text in enumerate(questions)],
    )
    rows = [(f"q{n}", f"d{n}", 1) for n in range(n_documents)]
    write_qrels(folder / "qrels" / "train.tsv", rows)
    return folder

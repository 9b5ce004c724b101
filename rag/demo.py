"""The demonstration corpus: Wikipedia lead summaries, turned into documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from indexes.files import write_durably
from rag.models.catalogue import DEFAULT_MODELS, DEMO_CORPUS, get_entry
from rag.models.pull import pull_all
from rag.progress import Progress

INDEX = "demo"
RETRIEVERS = "bm25,minilm:max_tokens=40"
"""40 tokens hold the title and the defining sentence: what keeps the demo under ten minutes."""

QUESTIONS = (
    "Who painted A Sunday Afternoon on the Island of La Grande Jatte?",
    "Who directed 2001: A Space Odyssey?",
    "Who developed the theory of general relativity?",
)


class _Summary(msgspec.Struct):
    title: str
    extract: str
    description: str = ""
    topic: str = ""


def pull_demo(cache: Path, progress: Progress) -> Path:
    """Fetch the default models and the corpus; return the corpus as a JSONL file of documents.

    Raises `DownloadFailed` and `ModelError`.
    """
    folders = pull_all([get_entry(n) for n in (*DEFAULT_MODELS, DEMO_CORPUS)], cache, progress)
    documents = cache / "demo" / f"{folders[-1].name}.jsonl"
    if not documents.is_file():
        documents.parent.mkdir(parents=True, exist_ok=True)
        write_durably(documents, b"".join(_documents(folders[-1] / "summaries_en-us.json")))
    return documents


def _documents(source: Path) -> Iterator[bytes]:
    """One JSON line a summary: the title is the id, for titles are what people recognise."""
    summaries = msgspec.json.decode(source.read_bytes(), type=dict[str, _Summary])
    for key, summary in summaries.items():
        document: dict[str, Any] = {
            "id": key,
            "title": summary.title,
            "text": summary.extract,
            "topic": summary.topic,
            "description": summary.description,
        }
        yield msgspec.json.encode(document) + b"\n"

"""The index of a data set's corpus: built once, reused while corpus and configuration stay."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from indexes.analyzer import AnalyzerConfig
from indexes.document import Document
from indexes.library import index_folder, index_names
from indexes.passages import PassageConfig
from rag.build import BuildReport, BuildRequest, build_index
from rag.config import Settings
from rag.progress import Progress
from rag.retrievers.retriever import RetrieverSpec

_MAX_SLUG_CHARS = 50
_DIGEST_CHARS = 8
_PREFIX = "eval-"


class IndexPlan(msgspec.Struct, frozen=True):
    """What an index is made of, its documents apart."""

    retrievers: list[RetrieverSpec]
    passages: PassageConfig = PassageConfig()
    analyzer: AnalyzerConfig = AnalyzerConfig()


class Corpus(msgspec.Struct, frozen=True):
    """Documents to index: a path that can be read as it is, else a stream to be written out."""

    documents: Callable[[], Iterator[Document]]
    path: Path | None = None


def default_name(dataset: str, origin: str, plan: IndexPlan) -> str:
    """An index name that two different corpora or plans do not share.

    `origin` tells data sets of one name apart: the path or the id they were asked for by.
    """
    words = "-".join([dataset, *(spec.name for spec in plan.retrievers)]).lower()
    slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:_MAX_SLUG_CHARS]
    digest = hashlib.sha256(msgspec.json.encode([origin, plan])).hexdigest()[:_DIGEST_CHARS]
    return f"{_PREFIX}{slug}-{digest}"


def ensure_index(
    name: str, corpus: Corpus, plan: IndexPlan, settings: Settings, progress: Progress
) -> BuildReport:
    """Build the index, go on with an interrupted build, or find it up to date.

    What other indexes of evaluations hold of the same documents is not encoded again.

    Raises what `build_index` raises.
    """
    folder = index_folder(settings.root, name)
    with _readable(corpus) as path:
        request = BuildRequest(
            name=name,
            inputs=[path],
            retrievers=plan.retrievers,
            analyzer=plan.analyzer,
            passages=plan.passages,
            reuse=[other for other in index_names(settings.root) if other.startswith(_PREFIX)],
            rejects=folder.parent / f"{folder.name}.rejects.jsonl",
        )
        report = build_index(request, settings, progress)
    state = "up to date" if report.up_to_date else f"{report.n_rejected} documents rejected"
    progress.note(f"index {name}: {report.n_documents} documents, {state}")
    return report


def write_corpus(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as JSON lines, one at a time."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for document in documents:
            row = {
                "_id": document.id,
                "title": document.title,
                "text": document.text,
                "metadata": document.metadata,
            }
            file.write(encoder.encode(row) + b"\n")


@contextmanager
def _readable(corpus: Corpus) -> Iterator[Path]:
    """A path to build from. A stream is written anew each time: the same bytes, the same index."""
    if corpus.path is not None:
        yield corpus.path
        return
    with TemporaryDirectory(prefix="evident-corpus-") as folder:
        path = Path(folder) / "corpus.jsonl"
        write_corpus(path, corpus.documents())
        yield path

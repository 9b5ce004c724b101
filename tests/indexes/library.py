"""Small real indexes for tests: BM25 over real analysis, dense vectors from a seeded generator."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexes.analyzer import Analyzer, AnalyzerConfig
from indexes.commit import first_manifest
from indexes.document import Document
from indexes.document_store import StoredDocument, with_hash
from indexes.manifest import Manifest, RetrieverEntry
from indexes.passages import PassageConfig, passage_spans
from indexes.representation import PassageVectors, SparseRows
from indexes.segment import write_segment
from indexes.writer import BUILD, IndexWriter

BM25 = RetrieverEntry("bm25", "bm25", ["sparse"], weighting="bm25", params={"k1": 0.9, "b": 0.4})
DENSE = RetrieverEntry("toy", "dense", ["dense"], model="toy")
BOTH = RetrieverEntry("duplex", "duplex", ["sparse", "dense"], model="toy")
ANALYZER = AnalyzerConfig()
PASSAGES = PassageConfig(max_words=12)
DIMENSION = 8


def stored(
    documents: Sequence[Document], passages: PassageConfig = PASSAGES
) -> list[StoredDocument]:
    """Documents with hashes and spans."""
    return [with_hash(d, passage_spans(d.text, passages) or [(0, 0)]) for d in documents]


def texts_of(documents: Sequence[StoredDocument]) -> list[str]:
    """What a retriever reads of each passage."""
    return [
        f"{s.document.title} {s.document.text[start:end]}".strip()
        for s in documents
        for start, end in s.spans
    ]


def toy_vector(text: str) -> np.ndarray:
    """A unit vector that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def term_rows(texts: Sequence[str]) -> SparseRows:
    """Term frequencies of texts."""
    analyzer = Analyzer(ANALYZER)
    counts = [Counter(analyzer.terms(text)) for text in texts]
    vocabulary = sorted({term for count in counts for term in count}, reverse=True)
    number = {term: place for place, term in enumerate(vocabulary)}
    return SparseRows(
        vocabulary=vocabulary,
        indptr=np.cumsum([0, *map(len, counts)]).astype(np.int64),
        term_ids=np.array([number[t] for c in counts for t in c], dtype=np.uint32),
        weights=np.array([n for c in counts for n in c.values()], dtype=np.uint32),
        lengths=np.array([sum(c.values()) for c in counts], dtype=np.uint32),
    )


def vectors_for(
    documents: Sequence[StoredDocument], retrievers: Sequence[RetrieverEntry]
) -> dict[str, PassageVectors]:
    """Every retriever's representation."""
    texts = texts_of(documents)
    made = {}
    for entry in retrievers:
        dense = np.stack([toy_vector(t) for t in texts]) if "dense" in entry.parts else None
        made[entry.name] = PassageVectors(
            sparse=term_rows(texts) if "sparse" in entry.parts else None, dense=dense
        )
    return made


def build(
    folder: Path,
    documents: Sequence[Document],
    retrievers: Sequence[RetrieverEntry] = (BM25, DENSE),
    passages: PassageConfig = PASSAGES,
    shard_size: int = 3,
) -> Manifest:
    """An index made of the documents, through shards as a real build does it."""
    base = first_manifest(folder.name, ANALYZER, passages, retrievers)
    ready = stored(documents, passages)
    with IndexWriter(folder) as writer:
        writer.drop_build()
        shards = [
            write_segment(
                folder / BUILD / "segments" / f"shard-{at:05d}",
                ready[at : at + shard_size],
                vectors_for(ready[at : at + shard_size], retrievers),
                retrievers,
            )
            for at in range(0, len(ready), shard_size)
        ]
        manifest = writer.replace(base, shards, folder / BUILD)
        writer.drop_build()
    return manifest


def upsert(folder: Path, documents: Sequence[Document]) -> Manifest:
    """Add or replace documents in one commit."""
    ready = stored(documents)
    with IndexWriter(folder) as writer:
        manifest = writer.manifest()
        assert manifest is not None
        return writer.upsert(ready, vectors_for(ready, manifest.retrievers))

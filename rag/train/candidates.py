"""Hard negatives and teacher scores, mined with our own index.

An index of the set's documents is built with the teacher's retrievers (BM25 and a bi-encoder, say).
For each question every document gets the weighted sum of its min-max scaled scores, as in fusion;
negatives are the best of them and a random choice from further down. Documents that would be
false negatives are left out: other copies of a relevant paragraph, and paragraphs that hold an
answer. What was mined is kept, by the digest of all that made it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from indexes.analyzer import AnalyzerConfig
from indexes.files import write_durably
from indexes.library import index_folder, index_names
from indexes.passages import PassageConfig
from indexes.representation import Floats, QueryVector
from indexes.snapshot import Snapshot
from rag.build import BuildRequest, build_index
from rag.config import Settings
from rag.progress import Progress
from rag.retrievers.opening import open_retriever
from rag.retrievers.retriever import parse_specs
from rag.train.false_negatives import FalseNegatives
from rag.train.pairs import Pairs

PREFIX = "train-"
N_POSITIVES = 8
"""Relevant documents kept per question: those the teacher likes best."""


class MiningConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How negatives are found: `retrievers` as on the command line, and their shares.

    `n_top` negatives are the best ranked, `n_random` are drawn from the ranks after them down to
    `depth`, which is also where min-max scaling takes its minimum.
    """

    retrievers: str = "bm25,minilm"
    weights: tuple[float, ...] = (1.0, 1.0)
    n_top: Annotated[int, Meta(ge=1)] = 8
    n_random: Annotated[int, Meta(ge=0)] = 8
    depth: Annotated[int, Meta(ge=2)] = 100


class Candidates(msgspec.Struct, frozen=True):
    """What each question is trained against.

    For question i: `rows[i]` int32 `[P + N]`, positives first, -1 where there are fewer, and the
    teacher's `scores[i]` float32 beside them. `n_positives` is P.
    """

    rows: NDArray[np.int32]
    scores: Floats
    n_positives: int


def mine(
    pairs: Pairs,
    config: MiningConfig,
    seed: int,
    work: Path,
    settings: Settings,
    progress: Progress,
) -> Candidates:
    """Mine, or take what an earlier run mined from the same data in the same way."""
    from safetensors.numpy import load_file, save

    facts = [pairs.sha256, msgspec.to_builtins(config), seed, N_POSITIVES]
    digest = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]
    kept = work / "mined" / f"{pairs.source.name}-{digest}.safetensors"
    if not kept.is_file():
        snapshot = _index(pairs, config, work, settings, progress)
        try:
            found = _mine_all(pairs, config, seed, snapshot, settings, progress)
        finally:
            snapshot.close()
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_durably(kept, save({"rows": found.rows, "scores": found.scores}))
    tensors = load_file(kept)
    return Candidates(tensors["rows"], tensors["scores"], N_POSITIVES)


def _index(
    pairs: Pairs, config: MiningConfig, work: Path, settings: Settings, progress: Progress
) -> Snapshot:
    """The index of the set's documents by the teacher's retrievers, built once."""
    root = work / "indexes"
    root.mkdir(parents=True, exist_ok=True)
    name = f"{PREFIX}{pairs.source.name}-{pairs.sha256[:8]}"
    corpus = root / f"{name}.jsonl"
    rows = (
        msgspec.json.encode({"_id": d.id, "title": d.title, "text": d.text, "metadata": d.metadata})
        for d in pairs.documents
    )
    write_durably(corpus, b"\n".join(rows) + b"\n")
    request = BuildRequest(
        name=name,
        inputs=[corpus],
        retrievers=parse_specs(config.retrievers),
        analyzer=AnalyzerConfig(),
        passages=PassageConfig(),
        rejects=root / f"{name}.rejects.jsonl",
        reuse=[other for other in index_names(root) if pairs.source.name in other],
    )
    build_index(request, msgspec.structs.replace(settings, root=root), progress)
    return Snapshot(index_folder(root, name))


def _mine_all(
    pairs: Pairs,
    config: MiningConfig,
    seed: int,
    snapshot: Snapshot,
    settings: Settings,
    progress: Progress,
) -> Candidates:
    names = [spec.name for spec in parse_specs(config.retrievers)]
    texts = [query.text for query in pairs.queries]
    vectors = {
        name: [
            encoded.vector
            for encoded in open_retriever(
                snapshot.retriever(name), snapshot.analyzer, settings
            ).encode_queries(texts)
        ]
        for name in names
    }
    shares = dict(zip(names, config.weights, strict=True))
    place_of = {document.id: place for place, document in enumerate(pairs.documents)}
    false_negatives = FalseNegatives(pairs)
    width = N_POSITIVES + config.n_top + config.n_random
    rows = np.full((len(texts), width), -1, dtype=np.int32)
    scores = np.zeros((len(texts), width), dtype=np.float32)
    progress.start(f"mining {pairs.source.name}", len(texts), "questions")
    for number, query in enumerate(pairs.queries):
        asked = {name: vectors[name][number] for name in names}
        teacher = _teacher(snapshot, asked, shares, place_of, config.depth)
        liked = sorted(query.positives, key=lambda row: -teacher[row])
        positives = liked[:N_POSITIVES]
        negatives = _negatives(teacher, false_negatives.mask(number), config, [seed, number])
        rows[number, : len(positives)] = positives
        rows[number, N_POSITIVES : N_POSITIVES + len(negatives)] = negatives
        scores[number] = np.where(rows[number] >= 0, teacher[rows[number]], 0)
        progress.advance(1)
    progress.finish()
    return Candidates(rows, scores, N_POSITIVES)


def _negatives(
    teacher: Floats, never: NDArray[np.bool_], config: MiningConfig, seed: Sequence[int]
) -> NDArray[np.int64]:
    """Rows of the hard negatives, then of the random ones."""
    order = np.argsort(-np.where(never, -np.inf, teacher), kind="stable")
    order = order[: min(config.depth, int((~never).sum()))]
    rest = order[config.n_top :]
    generator = np.random.default_rng(list(seed))
    drawn = generator.choice(rest, size=min(config.n_random, len(rest)), replace=False)
    return np.concatenate([order[: config.n_top], drawn])


def _teacher(
    snapshot: Snapshot,
    asked: Mapping[str, QueryVector],
    shares: Mapping[str, float],
    place_of: Mapping[str, int],
    depth: int,
) -> Floats:
    """Σ share · (score − low) / (high − low) over the retrievers, for every document `[n]`.

    `high` is a ranking's best score and `low` that at `depth`, or 0 where fewer were found;
    documents below `low`, or not found, get 0 of that retriever, as fusion gives them.
    """
    total = np.zeros(len(place_of), dtype=np.float32)
    allowed = snapshot.allowed(None)
    for name, vector in asked.items():
        found = snapshot.search(name, vector, len(place_of), allowed)
        if not len(found.scores):
            continue
        places = [place_of[key] for key in snapshot.ids_of(found.rows.tolist())]
        high, last = float(found.scores[0]), float(found.scores[-1])
        low = float(found.scores[depth - 1]) if len(found.scores) >= depth else min(0.0, last)
        # Where all down to `depth` are alike there is no scale: they are all the best.
        scaled = (found.scores - low) / (high - low) if high > low else found.scores >= high
        total[places] += shares[name] * np.maximum(scaled, 0)
    return total

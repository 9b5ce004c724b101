"""The dev measure of a GeAR run: the model as delivered, pointing at sentences and retrieving."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.measures import score_run
from eval.run import Run
from indexes.sentences import sentence_spans
from rag.config import Settings
from rag.gear.locator import Locator, open_locator
from rag.gear.shape import Aggregation
from rag.models.resolver import resolve
from rag.progress import Silent
from rag.retrievers.gear import GearRetriever
from rag.retrievers.opening import entry_of
from rag.retrievers.retriever import RetrieverSpec, passage_input
from rag.train.dev import PICK as RETRIEVAL
from rag.train.dev import DevSet
from rag.train.gear.examples import Examples, Located
from rag.train.gear.run import LOCATED, PICK
from rag.train.gear.task import Measure

DEPTH = 10


def gear_measure(settings: Settings) -> Measure:
    """R@1 of sentences by either aggregation, nDCG@10 of documents, each a mean over questions."""

    def measure(folder: Path, examples: Examples) -> dict[str, float]:
        model = resolve(str(folder), settings.cache)
        tokens = settings.encode_batch_tokens
        locator = open_locator(model, settings.cache, device=settings.device, batch_tokens=tokens)
        found = {
            name: round(located_share(locator, examples.located, how), 5)
            for how, name in LOCATED.items()
        }
        spec = RetrieverSpec("trained", "gear", str(folder))
        retriever = GearRetriever(
            entry_of(spec, settings, Silent()),
            model,
            cache=settings.cache,
            device=settings.device,
            batch_tokens=tokens,
        )
        values = {one.name: _retrieved(retriever, one) for one in examples.retrieved}
        mean = float(np.mean(list(values.values()))) if values else 0.0
        best = max(found.values())
        return {
            PICK: round((best + mean) / 2, 5),
            **found,
            RETRIEVAL: round(mean, 5),
            **{f"{name} {RETRIEVAL}": round(value, 5) for name, value in values.items()},
        }

    return measure


def located_share(locator: Locator, asked: list[Located], how: Aggregation) -> float:
    """The share of questions whose likeliest sentence is one that answers."""
    right = []
    for one in asked:
        best = locator.locate(one.question, [(one.title, one.text)], how)[0][0]
        gold = {sentence_spans(one.text)[number] for number in one.sentences}
        right.append((best.start, best.end) in gold)
    return float(np.mean(right)) if right else 0.0


def _retrieved(retriever: GearRetriever, one: DevSet) -> float:
    texts = [passage_input(document.title, document.text) for document in one.documents]
    rows = retriever.encode_passages(texts, lambda _: None).dense
    assert rows is not None
    ids = [document.id for document in one.documents]
    run: Run = {}
    queries = retriever.encode_queries(list(one.queries.values()))
    for query_id, query in zip(one.queries, queries, strict=True):
        assert query.vector.dense is not None
        scores = rows @ query.vector.dense
        best = np.argsort(-scores, kind="stable")[:DEPTH]
        run[query_id] = {ids[place]: float(scores[place]) for place in best}
    return score_run(one.qrels, run, (RETRIEVAL,)).measures[RETRIEVAL]

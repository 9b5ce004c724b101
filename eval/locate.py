"""Which sentence of its paragraph answers a question: GeAR against retrievers over sentences.

Every method ranks the sentences of the question's own paragraph. A retriever of the product ranks
them in an index of all paragraphs' sentences, of which only those count (as embedding models are
used for this in Liu et al. 2025); GeAR reads the paragraph once and points. R@k is 1 where one of
the first k sentences shares a character with an answer's place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from eval.answer_text import best, exact_match, token_f1
from eval.compare import Comparison, compare
from eval.corpus_index import Corpus, IndexPlan, ensure_index
from eval.located_files import LocatedQuestion
from indexes.document import Document
from indexes.passages import PassageConfig
from indexes.sentences import sentence_spans
from rag.config import Settings
from rag.gear.locator import Locator
from rag.gear.shape import Aggregation
from rag.gear.writer import Writer
from rag.progress import Progress
from rag.service import Service

DEPTHS = (1, 3)
Order = list[int]
"""Numbers of a paragraph's sentences, best first."""


class LocateRecord(msgspec.Struct, frozen=True):
    """What was measured: means, values of each question, and each method against the first."""

    dataset: str
    n_questions: int
    n_sentences: float
    measures: dict[str, dict[str, float]]
    comparisons: list[Comparison]
    per_query: dict[str, dict[str, dict[str, float]]]


class Latency(msgspec.Struct, frozen=True):
    """Medians over questions of locating in a batch of hits.

    `cpu_ms_per_batch` is the processor time of all threads together, which other processes on the
    machine disturb less than the clock.
    """

    n_hits: int
    tokens_per_hit: float
    ms_per_batch: float
    ms_per_hit: float
    cpu_ms_per_batch: float


def locate_with_gear(
    locator: Locator, asked: Sequence[LocatedQuestion], how: Aggregation, progress: Progress
) -> dict[str, Order]:
    """GeAR's order of each paragraph's sentences."""
    orders = {}
    progress.start(f"gear {how}", len(asked), "questions")
    for one in asked:
        (found,) = locator.locate(one.question, [(one.title, one.text)], how)
        numbers = {span: number for number, span in enumerate(sentence_spans(one.text))}
        orders[one.id] = [numbers[sentence.start, sentence.end] for sentence in found]
        progress.advance(1)
    progress.finish()
    return orders


def locate_by_retrieval(
    asked: Sequence[LocatedQuestion],
    plan: IndexPlan,
    index: str,
    settings: Settings,
    progress: Progress,
) -> dict[str, Order]:
    """The plan's one retriever's order of each paragraph's sentences.

    Ties go to the earlier sentence.
    """
    whole = msgspec.structs.replace(plan, passages=PassageConfig(max_words=0))
    ensure_index(index, _sentence_corpus(asked), whole, settings, progress)
    (name,) = (spec.name for spec in plan.retrievers)
    service = Service(settings)
    try:
        snapshot = service.snapshot(index)
        retriever = service.retrievers(snapshot, [name])[name]
        found = retriever.encode_queries([one.question for one in asked])
        orders = {}
        for one, query in zip(asked, found, strict=True):
            keys = _keys(one.text)
            ranked = snapshot.search(name, query.vector, len(keys), snapshot.rows_of(keys))
            ids = snapshot.ids_of(ranked.rows.tolist())
            scores = dict(zip(ids, ranked.scores.tolist(), strict=True))
            values = np.array([scores.get(key, -np.inf) for key in keys])
            orders[one.id] = np.argsort(-values, kind="stable").tolist()
        return orders
    finally:
        service.close()


def score_orders(
    dataset: str, asked: Sequence[LocatedQuestion], orders: Mapping[str, Mapping[str, Order]]
) -> LocateRecord:
    """R@1 and R@3 of every method, and paired tests of each against the first."""
    per_query = {
        name: {
            f"R@{depth}": {one.id: float(_hit(one, found[one.id][:depth])) for one in asked}
            for depth in DEPTHS
        }
        for name, found in orders.items()
    }
    measures = {
        name: {measure: float(np.mean(list(values.values()))) for measure, values in found.items()}
        for name, found in per_query.items()
    }
    return LocateRecord(
        dataset=dataset,
        n_questions=len(asked),
        n_sentences=float(np.mean([len(sentence_spans(one.text)) for one in asked])),
        measures=measures,
        comparisons=compare(per_query) if len(per_query) > 1 else [],
        per_query=per_query,
    )


def measure_latency(
    locator: Locator, asked: Sequence[LocatedQuestion], n_hits: int, n_batches: int, seed: int
) -> Latency:
    """Locate in `n_hits` paragraphs drawn by `seed`, again and again; a first batch warms up."""
    generator = np.random.default_rng(seed)
    times, busy, lengths = [], [], []
    for number in range(n_batches + 1):
        drawn = generator.choice(len(asked), n_hits, replace=False)
        documents = [(asked[place].title, asked[place].text) for place in drawn]
        started, spent = time.perf_counter(), time.process_time()
        locator.locate(asked[drawn[0]].question, documents)
        if number:
            times.append(1000 * (time.perf_counter() - started))
            busy.append(1000 * (time.process_time() - spent))
            lengths.append(np.mean([len(locator.tokens.ids(text)) for _, text in documents]))
    median = float(np.median(times))
    tokens = float(np.mean(lengths))
    return Latency(n_hits, tokens, median, median / n_hits, float(np.median(busy)))


def _hit(one: LocatedQuestion, order: Order) -> bool:
    spans = sentence_spans(one.text)
    return any(
        max(spans[number][0], start) < min(spans[number][1], end)
        for number in order
        for start, end in one.answers
    )


def _keys(text: str) -> list[str]:
    """Ids of a paragraph's sentences: the same sentence has the same id everywhere."""
    return [_key(text[start:end]) for start, end in sentence_spans(text)]


def _key(sentence: str) -> str:
    import hashlib

    return hashlib.sha256(sentence.encode()).hexdigest()[:24]


def _sentence_corpus(asked: Sequence[LocatedQuestion]) -> Corpus:
    sentences: dict[str, Document] = {}
    for text in dict.fromkeys(one.text for one in asked):
        for start, end in sentence_spans(text):
            sentence = text[start:end]
            sentences.setdefault(_key(sentence), Document(_key(sentence), sentence))
    documents = list(sentences.values())
    return Corpus(lambda: iter(documents))


def write_answers(
    locator: Locator, asked: Sequence[LocatedQuestion], progress: Progress
) -> dict[str, dict[str, float]]:
    """Exact match and F1 of generated answers: written freely, and copied from the paragraph."""
    writer = Writer(locator)
    values: dict[str, list[tuple[float, float]]] = {"free": [], "copied": []}
    progress.start("writing", len(asked), "answers")
    for one in asked:
        accepted = [one.text[start:end] for start, end in one.answers]
        for how, found in values.items():
            said = writer.answer(one.question, (one.title, one.text), copied=how == "copied").text
            found.append((best(exact_match, said, accepted), best(token_f1, said, accepted)))
        progress.advance(1)
    progress.finish()
    means = {how: np.mean(found, axis=0).tolist() for how, found in values.items()}
    return {how: {"EM": em, "F1": f1} for how, (em, f1) in means.items()}

"""Questions made from sentences, for relevant-sentence training without anybody's annotation.

The paper has a large model rewrite sentences into queries. A model that runs here writes worse
ones than this extractive way: a name or a number is taken out of the sentence, a question word that
asks for such a thing comes in front, and some of the other content words stay. What was taken out
is the answer. As in the paper, questions asked twice are dropped, and so are those whose sentence
is not the most relevant one of its passage (by the idf weight of shared words, and by clear lead).
"""

from __future__ import annotations

import gzip
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import regex

from indexes.errors import InvalidInput, MalformedInput
from indexes.sentences import sentence_spans
from rag.generate.alignment import Word, split_words
from rag.train.gear.recipe import SynthesisConfig
from rag.train.pairs import normalised, text_digest

MIN_SENTENCES, MAX_SENTENCES = 3, 20
MIN_WORDS, MAX_WORDS = 4, 12
LEAD = 1.3
"""A question's sentence must share this many times what the next best one shares with it."""

_YEAR = regex.compile(r"\b(?:1[0-9]{3}|20[0-9]{2})s?\b")
_NUMBER = regex.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
_NAME = regex.compile(
    r"(?<!^)(?<![.!?]\s)\b\p{Lu}[\w'’-]+(?:\s+(?:of|de|von|van)?\s*\p{Lu}[\w'’-]+)*"
)
_ASK_NAME = ("who", "what", "which", "where", "what is", "who was", "which one", "name of")
_ASK_YEAR = ("when", "what year", "in which year", "when did")
_ASK_NUMBER = ("how many", "how much", "what number", "what is the number of")


class MadeQuestion(NamedTuple):
    """A question, the passage it was made from, the number of its sentence, and what answers it."""

    question: str
    text: str
    sentence: int
    answer: str


class _Line(msgspec.Struct):
    source: str
    text: str


def make_questions(
    data: Path, config: SynthesisConfig, never: frozenset[str], seed: int
) -> tuple[list[MadeQuestion], str]:
    """Questions from a file of passages, and a digest of what made them.

    Passages whose `text_digest` is in `never` are left out. Raises `InvalidInput` for a file that
    is absent, `MalformedInput` for a damaged one.
    """
    texts = _passages(data / config.file, frozenset(config.sources), never)
    texts.sort(key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    idf = _idf(texts)
    made: list[MadeQuestion] = []
    asked: set[str] = set()
    for number, text in enumerate(texts):
        if len(made) == config.n_passages:
            break
        one = _make(text, idf, np.random.default_rng([seed, number]))
        if one is not None and normalised(one.question) not in asked:
            asked.add(normalised(one.question))
            made.append(one)
    facts = [msgspec.to_builtins(config), seed, [text_digest(one.text) for one in made]]
    return made, hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _passages(path: Path, sources: frozenset[str], never: frozenset[str]) -> list[str]:
    if not path.is_file():
        raise InvalidInput(f"training data: {path} is absent")
    decoder = msgspec.json.Decoder(_Line)
    with gzip.open(path, "rb") as lines:
        try:
            found = [decoder.decode(line) for line in lines]
        except (msgspec.DecodeError, OSError) as error:
            raise MalformedInput(f"{path.name}: {error}") from error
    kept = {one.text: None for one in found if one.source in sources}
    return [text for text in kept if text_digest(text) not in never]


def _idf(texts: Sequence[str]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({word.form for word in split_words(text)})
    return {form: math.log(1 + len(texts) / count) for form, count in counts.items()}


def _make(text: str, idf: dict[str, float], generator: np.random.Generator) -> MadeQuestion | None:
    spans = sentence_spans(text)
    if not MIN_SENTENCES <= len(spans) <= MAX_SENTENCES:
        return None
    sentences = [text[start:end] for start, end in spans]
    chosen = int(generator.integers(len(spans)))
    answers = list(_answers(sentences[chosen]))
    if not answers:
        return None
    asks, start, end = answers[int(generator.integers(len(answers)))]
    rest = [
        word
        for word in split_words(sentences[chosen])
        if not word.is_common and (word.end <= start or word.start >= end)
    ]
    if len(rest) < MIN_WORDS:
        return None
    kept = _thinned(rest, start, generator)
    if not _is_relevant({word.form for word in kept}, sentences, chosen, idf):
        return None
    words = [sentences[chosen][word.start : word.end].lower() for word in kept]
    question = " ".join([str(generator.choice(asks)), *words])
    return MadeQuestion(question, text, chosen, sentences[chosen][start:end])


def _answers(sentence: str) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """(question words, start, end) of what could be asked for."""
    taken: list[tuple[int, int]] = []
    for pattern, asks in ((_YEAR, _ASK_YEAR), (_NAME, _ASK_NAME), (_NUMBER, _ASK_NUMBER)):
        for match in pattern.finditer(sentence):
            start, end = match.span()
            if all(end <= first or start >= last for first, last in taken):
                taken.append((start, end))
                yield asks, start, end


def _thinned(words: Sequence[Word], at: int, generator: np.random.Generator) -> list[Word]:
    """Some of the words, those near what is asked for the likeliest; in their order."""
    n_kept = int(generator.integers(MIN_WORDS, min(len(words), MAX_WORDS) + 1))
    n_kept = min(n_kept, max(MIN_WORDS, round(0.7 * len(words))))
    distance = np.array([abs(word.start - at) for word in words], dtype=np.float64)
    chances = 1 / (20 + distance)
    picked = generator.choice(len(words), n_kept, replace=False, p=chances / chances.sum())
    return [words[place] for place in sorted(picked.tolist())]


def _is_relevant(
    asked: set[str], sentences: Sequence[str], chosen: int, idf: dict[str, float]
) -> bool:
    shared = [
        sum(idf.get(form, 0.0) for form in asked & {word.form for word in split_words(sentence)})
        for sentence in sentences
    ]
    others = max((value for place, value in enumerate(shared) if place != chosen), default=0.0)
    return shared[chosen] >= LEAD * others

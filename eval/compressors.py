"""What evidence is shortened by in an evaluation: the product's way, its parts, and baselines.

* `auto`: as the product does it; `sentences`: without the token classifier, `both`: with it;
  `words`: nothing but it, as LLMLingua-2 is published;
* `random`: words at random; `idf`: the words rarest in the index;
* `llmlingua`: the library, over the same checkpoint.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from indexes.errors import UsageError
from rag.bench.compress import open_llmlingua
from rag.compress.compression import Compression, Passage
from rag.compress.compressor import Compressed, Compressor, Kept, Weighed
from rag.compress.kept_text import KeptText
from rag.compress.opening import open_compressor
from rag.compress.token_classifier import TokenClassifier
from rag.compress.token_counter import TokenCounter
from rag.compress.word_scorer import Reduction, ScoredWords
from rag.compress.words import Span, plain_words
from rag.config import Settings
from rag.models.resolver import resolve

ONLY_WORDS = Compression(sentences=False, passages=False, words=True)
PARTS = {
    "auto": Compression(),
    "sentences": Compression(words=False),
    "both": Compression(words=True),
    "words": ONLY_WORDS,
    "random": ONLY_WORDS,
    "idf": ONLY_WORDS,
    "llmlingua": ONLY_WORDS,
}
"""What of the product's parts each way uses; baselines put their own scores for words' in."""


def compression(rate: float, how: str) -> Compression:
    """The options of one way."""
    return msgspec.structs.replace(PARTS[how], rate=rate)


class RandomWords:
    """Scores words at random, the same for the same texts."""

    name = "random"

    def score(
        self,
        texts: Sequence[str],
        question: str,  # noqa: ARG002
        by: Reduction,  # noqa: ARG002
    ) -> list[ScoredWords]:
        """Uniform scores."""
        found = []
        for text in texts:
            words = plain_words(text)
            generator = np.random.default_rng([len(text), len(words)])
            found.append(ScoredWords(words, generator.random(len(words)).tolist()))
        return found


class IdfWords:
    """Scores words by how few of the documents hold them: log(N / df) / log(N)."""

    name = "idf"

    def __init__(self, documents: Sequence[str]) -> None:
        self._n = max(2, len(documents))
        self._n_with = Counter(
            form
            for document in documents
            for form in {_form(document, word) for word in plain_words(document)}
        )

    def score(
        self,
        texts: Sequence[str],
        question: str,  # noqa: ARG002
        by: Reduction,  # noqa: ARG002
    ) -> list[ScoredWords]:
        """Punctuation is as common as it comes."""
        found = []
        for text in texts:
            words = plain_words(text)
            rarity = [self._n / max(1, self._n_with[_form(text, word)]) for word in words]
            scores = [math.log(value) / math.log(self._n) for value in rarity]
            found.append(ScoredWords(words, scores))
        return found


class LlmLingua(Compressor):
    """llmlingua in the place of our compressor; it keeps no map to the source."""

    def __init__(self, settings: Settings, classifier: TokenClassifier) -> None:
        super().__init__(classifier)
        generator = resolve(settings.generator, settings.cache).folder
        self._compress = open_llmlingua(classifier, generator, settings.device)

    def compress(
        self,
        passages: Sequence[Passage],
        question: str,  # noqa: ARG002
        options: Compression,
        tokenizer: TokenCounter,
        protected: Sequence[tuple[int, Span]] = (),  # noqa: ARG002
    ) -> Compressed:
        """Its texts, counted as ours are. It raises on empty texts, so those are kept back."""
        texts = [passage.text for passage in passages]
        asked = [text for text in texts if text.strip()]
        found = iter(self._compress(asked, options.rate) if asked else [])
        left = [next(found) if text.strip() else "" for text in texts]
        kept = [
            Kept(KeptText(after, []), len(tokenizer.encode(text)), len(tokenizer.encode(after)))
            for text, after in zip(texts, left, strict=True)
        ]
        nothing = np.zeros(0, np.int64)
        weighed = Weighed([], nothing, nothing, [], None, None, np.zeros(0))
        return Compressed(kept, weighed, nothing.astype(bool), ["llmlingua"], [])


def _form(text: str, word: Span) -> str:
    return text[word.start : word.end].casefold()


def open_compressors(
    settings: Settings, how: Iterable[str], documents: Callable[[], Sequence[str]]
) -> dict[str, Compressor]:
    """The compressor of each way, over one token classifier; `documents` are what idf counts.

    Raises `UsageError` where a way needs a classifier and none is configured.
    """
    found: dict[str, Compressor] = {}
    opened: Compressor | None = None
    for name in how:
        if name == "random":
            found[name] = Compressor(RandomWords())
        elif name == "idf":
            found[name] = Compressor(IdfWords(documents()))
        else:
            opened = opened or open_compressor(settings)
            found[name] = _with_classifier(settings, opened, name)
    return found


def _with_classifier(settings: Settings, opened: Compressor, how: str) -> Compressor:
    if how not in {"both", "words", "llmlingua"}:
        return opened
    if not isinstance(opened.scorer, TokenClassifier):
        raise UsageError(f"--compress-by {how}: no token classifier is configured")
    return LlmLingua(settings, opened.scorer) if how == "llmlingua" else opened

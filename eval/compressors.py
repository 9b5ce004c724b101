"""What evidence is shortened by in an evaluation: the product's way, its parts, and baselines.

* `auto`: as the product does it; `sentences`: without the token classifier; `words`: nothing but
  it, as LLMLingua-2 is published;
* `random`: words at random; `idf`: the words rarest in the index;
* `llmlingua`: the library, over the same checkpoint.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from eval.ask import AnswerPlan
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
from rag.service import Service

ONLY_WORDS = Compression(sentences=False, passages=False)
PARTS = {
    "auto": Compression(),
    "sentences": Compression(words=False),
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
        weighed = Weighed([], nothing, nothing, [], None, None)
        return Compressed(kept, weighed, nothing.astype(bool), ["llmlingua"], [])


def _form(text: str, word: Span) -> str:
    return text[word.start : word.end].casefold()


class _CompressingService(Service):
    """A service with a compressor of its own."""

    def __init__(self, settings: Settings, compressor: Compressor) -> None:
        super().__init__(settings)
        self._compressor = compressor


def compressing_service(settings: Settings, plan: AnswerPlan, index: str) -> Service:
    """The service that answers as `plan` says. Raises `UsageError` where a classifier is needed."""
    service = Service(settings)
    if plan.compress is None or plan.compress_by in {"auto", "sentences"}:
        return service
    if plan.compress_by == "random":
        return _CompressingService(settings, Compressor(RandomWords()))
    if plan.compress_by == "idf":
        return _CompressingService(settings, Compressor(IdfWords(_documents(service, index))))
    opened = open_compressor(settings)
    if not isinstance(opened.scorer, TokenClassifier):
        raise UsageError(f"--compress-by {plan.compress_by}: no token classifier is configured")
    if plan.compress_by == "words":
        return _CompressingService(settings, opened)
    return _CompressingService(settings, LlmLingua(settings, opened.scorer))


def _documents(service: Service, index: str) -> list[str]:
    snapshot = service.snapshot(index)
    return [snapshot.document(key).text for key in snapshot.live_ids()]

"""The compressor: passages and sentences weighed for the question, then words, within a budget.

Every word of all texts gets a priority: its p(preserve) from the token classifier, its sentence's
relevance, or both: where a question is asked, the sentence's relevance and the mean p(preserve) of
its words decide first. The words of the highest priority are kept, as many as the budget of
generator tokens allows. One threshold for all the evidence thus splits the budget by score (the
dynamic compression rate of Pan et al. 2024, appendix); with no classifier it keeps whole sentences,
the last one cut where the budget ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag.compress.budget import fill, fit
from rag.compress.compression import Compression, Passage
from rag.compress.kept_text import KeptText, keep_words, whole
from rag.compress.relevance import Sentence, sentences_of
from rag.compress.selection import NORMAL, QUOTA, tiers, without_repeats
from rag.compress.sentence_scorer import SentenceScorer
from rag.compress.token_counter import TokenCounter
from rag.compress.word_scorer import WordScorer
from rag.compress.words import Span, plain_words

RELEVANCE_WEIGHT = 2.0
"""What a sentence's relevance counts for a question, where the mean p(preserve) of its words is 1.

This and `WORD_WEIGHT` were chosen on questions held out of training.
"""

WORD_WEIGHT = 0.1
"""What a word's own p(preserve) counts there: less, so that sentences stay readable."""

OVER_BUDGET = "words that must be kept exceed the budget"
NO_CLASSIFIER = "no token classifier is configured: sentences were chosen, words were not"

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Priorities = NDArray[np.float64]


class Weighed(NamedTuple):
    """The words of all texts in order, each with what is known of it.

    `hits` says which text a word is of. `preserve` or `relevance` is None where that part did not
    run.
    """

    words: list[Span]
    hits: Numbers
    tiers: Numbers
    tokens: list[int]
    preserve: Priorities | None
    relevance: Priorities | None
    priority: Priorities


class Kept(NamedTuple):
    """What is left of one text, in tokens of the generator before and after."""

    text: KeptText
    original_tokens: int
    kept_tokens: int


class Compressed(NamedTuple):
    """What is left of each text; every word with whether it was kept; and which parts decided."""

    texts: list[Kept]
    weighed: Weighed
    kept: Flags
    by: list[str]
    warnings: list[str]


class Compressor:
    """Compresses for any generator. `scorer` is None where there is no token classifier.

    `sentences` scores sentences for a question beside their words; None: the words alone do.
    """

    def __init__(
        self, scorer: WordScorer | None = None, sentences: SentenceScorer | None = None
    ) -> None:
        self.scorer, self.sentences = scorer, sentences

    def compress(
        self,
        passages: Sequence[Passage],
        question: str,
        options: Compression,
        tokenizer: TokenCounter,
        protected: Sequence[tuple[int, Span]] = (),
    ) -> Compressed:
        """What is left of the passages' texts; `protected` are (number of the text, place)."""
        weighed, by = self._weigh(passages, question, options, protected)
        job = _Job([passage.text for passage in passages], weighed, options, tokenizer)
        kept = job.run()
        warnings = list(dict.fromkeys(job.warnings))
        if self.scorer is None and _wants_words(options, question):
            warnings.insert(0, NO_CLASSIFIER)
        return Compressed(job.texts(kept), weighed, kept, by, warnings)

    def _weigh(
        self,
        passages: Sequence[Passage],
        question: str,
        options: Compression,
        protected: Sequence[tuple[int, Span]],
    ) -> tuple[Weighed, list[str]]:
        texts = [passage.text for passage in passages]
        by: list[str] = []
        preserve: Priorities | None = None
        if self.scorer is not None and _wants_words(options, question):
            scored = self.scorer.score(texts, question, options.word_score)
            words = [one.words for one in scored]
            preserve = np.array([score for one in scored for score in one.scores])
            by.append(self.scorer.name)
        else:
            words = [plain_words(text) for text in texts]
        relevance: Priorities | None = None
        sentence_of = np.zeros(sum(map(len, words)), dtype=np.int64)
        asked = options.sentences and (bool(question.strip()) or preserve is None)
        ranked = options.passages and any(passage.score for passage in passages)
        if asked or ranked:
            scorer = self.sentences if asked and question.strip() else None
            sentences = sentences_of(
                passages, question, by_question=asked, by_passage=ranked, scorer=scorer
            )
            sentence_of = _sentence_of(sentences, words)
            worth = np.array([sentence.relevance for sentence in sentences] or [0.0])
            relevance = worth[sentence_of]
            parts = ["passages"] * ranked + ["sentences"] * asked
            by = [*parts, *([scorer.name] if scorer else []), *by]
        found = [
            tiers(text, own, options, [place for hit, place in protected if hit == number])
            for number, (text, own) in enumerate(zip(texts, words, strict=True))
        ]
        weighed = Weighed(
            words=[word for own in words for word in own],
            hits=np.repeat(np.arange(len(texts)), [len(own) for own in words]),
            tiers=np.array([tier for own, _ in found for tier in own], dtype=np.int64),
            tokens=[token for _, own in found for token in own],
            preserve=preserve,
            relevance=relevance,
            priority=_priority(preserve, relevance, sentence_of, asked=asked),
        )
        return weighed, by


def _wants_words(options: Compression, question: str) -> bool:
    """Whether the token classifier decides too; by default where sentences have no question."""
    if options.words is not None:
        return options.words
    return not (options.sentences and question.strip())


def _sentence_of(sentences: Sequence[Sentence], words: Sequence[Sequence[Span]]) -> Numbers:
    """Of each word of all texts the number of the sentence that it begins in."""
    starts: list[list[int]] = [[] for _ in words]
    for sentence in sentences:
        starts[sentence.hit].append(sentence.start)
    found: list[Numbers] = [np.zeros(0, dtype=np.int64)]
    first = 0
    for own, there in zip(words, starts, strict=True):
        places = np.searchsorted(there, [word.start for word in own], side="right") - 1
        found.append(first + np.maximum(places, 0))
        first += len(there)
    return np.concatenate(found)


def _priority(
    preserve: Priorities | None, relevance: Priorities | None, sentence_of: Numbers, *, asked: bool
) -> Priorities:
    """What decides among words of one tier."""
    if preserve is None:
        return np.zeros(len(sentence_of)) if relevance is None else relevance
    if relevance is None:
        return preserve
    if not asked:
        return preserve + relevance
    n_words = np.maximum(np.bincount(sentence_of), 1)
    means = np.bincount(sentence_of, weights=preserve) / n_words
    return RELEVANCE_WEIGHT * relevance + means[sentence_of] + WORD_WEIGHT * preserve


class _Job:
    """One compression: words in the order they are kept in, and counts of what that comes to."""

    def __init__(
        self, texts: Sequence[str], weighed: Weighed, options: Compression, tokenizer: TokenCounter
    ) -> None:
        self._texts, self._weighed, self._options = texts, weighed, options
        self._tokenizer = tokenizer
        self.originals = [self._count(text) for text in texts]
        total = sum(self.originals)
        self._all_fit = total <= self._budget(total)
        self._firsts = np.searchsorted(weighed.hits, np.arange(len(texts) + 1))
        self._line_breaks = any("\n" in token for token in options.force_tokens)
        self.warnings: list[str] = []

    def run(self) -> Flags:
        """Which words are kept: bool `[words]`."""
        hits = range(len(self._texts))
        if self._options.min_tokens:
            for hit in hits:
                self._reserve(hit)
        total = sum(self.originals)
        kept = np.zeros(len(self._weighed.words), dtype=bool)
        if self._options.threshold == "global":
            kept[self._chosen(hits, self._budget(total))] = True
        else:
            self._choose_each(kept, total)
        for hit in hits:
            self._drop_repeats(hit, kept)
        return kept

    def _choose_each(self, kept: Flags, total: int) -> None:
        """Let each text have its own share; of a target, also what those before it left over."""
        target = self._options.target_tokens
        read = spent = 0
        for hit, own in enumerate(self.originals):
            read += own
            budget = self._budget(own) if target is None else target * read // max(1, total) - spent
            chosen = self._chosen([hit], budget)
            kept[chosen] = True
            spent += self._tokens_with(hit, chosen)

    def texts(self, kept: Flags) -> list[Kept]:
        """What is left of each text."""
        found = []
        for hit, original in enumerate(self.originals):
            left = self._left(hit, kept)
            n_tokens = original if left.text == self._texts[hit] else self._count(left.text)
            found.append(Kept(left, original, n_tokens))
        return found

    def _budget(self, n_tokens: int) -> int:
        """Tokens that may be kept of `n_tokens`."""
        if self._options.target_tokens is not None:
            return self._options.target_tokens
        # 0.29 of 100 are 29, whatever 0.29 * 100 is.
        return int(self._options.rate * n_tokens + 1e-9)

    def _chosen(self, hits: Sequence[int], budget: int) -> Numbers:
        """The numbers of the words to keep of these texts."""
        order = self._order(hits)
        n_tokens = sum(self.originals[hit] for hit in hits)

        def count(numbers: Numbers) -> int:
            return sum(self._tokens_with(hit, numbers) for hit in hits)

        n_words = fit(len(order), lambda k: count(order[:k]), budget, n_tokens)
        n_forced = int((self._weighed.tiers[order] > NORMAL).sum())
        if n_words >= n_forced:
            return fill(order, n_words, count, budget)
        if self._options.strict:
            self.warnings.append(f"{OVER_BUDGET}: some were dropped")
            return order[:n_words]
        self.warnings.append(OVER_BUDGET)
        return order[:n_forced]

    def _order(self, hits: Iterable[int]) -> Numbers:
        """The words of these texts, those to be kept first in front."""
        weighed = self._weighed
        own = np.concatenate(
            [np.zeros(0, np.int64)] + [np.arange(*self._firsts[hit : hit + 2]) for hit in hits]
        )
        # lexsort is stable: of equals the earlier text first, and in it the earlier word.
        return own[np.lexsort((-weighed.priority[own], -weighed.tiers[own]))]

    def _reserve(self, hit: int) -> None:
        """Raise the best words of a text to a tier above the rest, `min_tokens` of them."""
        order = self._order([hit])

        def count(k: int) -> int:
            return self._tokens_with(hit, order[:k])

        n_words = fit(len(order), count, self._options.min_tokens, self.originals[hit])
        if n_words < len(order) and count(n_words) < self._options.min_tokens:
            n_words += 1
        best = order[:n_words]
        self._weighed.tiers[best] = np.maximum(self._weighed.tiers[best], QUOTA)

    def _tokens_with(self, hit: int, numbers: Numbers) -> int:
        """What is left of a text, in tokens, with these words kept."""
        kept = np.zeros(len(self._weighed.words), dtype=bool)
        kept[numbers] = True
        self._drop_repeats(hit, kept)
        return self._count(self._left(hit, kept).text)

    def _drop_repeats(self, hit: int, kept: Flags) -> None:
        """Drop force tokens of a text that only repeat the last, unless all of it is kept."""
        first, last = self._firsts[hit : hit + 2]
        if not self._options.drop_consecutive or kept[first:last].all():
            return
        numbers = np.flatnonzero(kept[first:last]).tolist()
        kept[first:last] = False
        left = without_repeats(numbers, self._weighed.tokens[first:last])
        kept[first + np.array(left, dtype=np.int64)] = True

    def _left(self, hit: int, kept: Flags) -> KeptText:
        """What is left of a text with these words kept."""
        if self._all_fit:
            return whole(self._texts[hit])
        first, last = self._firsts[hit : hit + 2]
        numbers = np.flatnonzero(kept[first:last]).tolist()
        words = self._weighed.words[first:last]
        return keep_words(self._texts[hit], words, numbers, line_breaks=self._line_breaks)

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text))

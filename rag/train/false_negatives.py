"""Documents that answer a question although nobody judged them: they must not be negatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rag.train.pairs import Pairs, normalised, passage_text, text_digest


class FalseNegatives:
    """Knows, for a data set, which documents may not count against a question.

    Those are the relevant ones, other copies of their text, and, where the set has answers,
    every document that holds one as whole words.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._texts = [normalised(passage_text(document)) for document in pairs.documents]
        copies: dict[str, list[int]] = {}
        digests = [text_digest(document.text) for document in pairs.documents]
        for row, digest in enumerate(digests):
            copies.setdefault(digest, []).append(row)
        self._copies = [copies[digest] for digest in digests]
        self._answers = [
            [found for found in map(normalised, query.answers) if found.strip()]
            for query in pairs.queries
        ]

    def mask(self, number: int) -> NDArray[np.bool_]:
        """For question `number`: bool `[n_documents]`, True where a document answers it."""
        found = np.zeros(len(self._texts), dtype=np.bool_)
        found[self.relevant(number)] = True
        for answer in self._answers[number]:
            found |= np.fromiter((answer in text for text in self._texts), np.bool_)
        return found

    def among(self, number: int, rows: Sequence[int]) -> list[bool]:
        """The same for a few documents."""
        relevant = set(self.relevant(number))
        answers = self._answers[number]
        return [
            row in relevant or any(answer in self._texts[row] for answer in answers) for row in rows
        ]

    def relevant(self, number: int) -> list[int]:
        """Rows of the question's relevant documents and of every copy of them."""
        positives = self._pairs.queries[number].positives
        return sorted({copy for row in positives for copy in self._copies[row]})

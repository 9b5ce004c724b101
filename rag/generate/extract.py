"""Exact extraction: of all stretches of the evidence the one that the model most probably says.

Ram et al. 2021, "How Optimal is Greedy Decoding for Extractive Question Answering?" (2108.05857):
the stretch c_i..c_j with the greatest sum of log P(c_k | prompt, c_i..c_{k-1}) plus
log P(end | prompt, c_i..c_j). Theirs scores all of them; here they are searched best first. Adding
tokens only takes probability away, so the first stretch whose end is reached is the best of all.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from rag.generate.language_model import Context
from rag.generate.prefill import Watch, n_common
from rag.generate.spans import Node, Span, SpanTrie
from rag.models.torch_runtime import threads_here

if TYPE_CHECKING:
    import torch

LOOKAHEAD = 4
"""Tokens fed beyond the one asked for, along the evidence: where a stretch is long they are needed
next, and four more cost little."""

MAX_FORWARDS = 400
"""After so many forwards the best stretch whose end was seen is taken, if it is the best or not."""


class Extraction(NamedTuple):
    """`span` has the tokens `token_ids`; `is_best` unless the search was cut short."""

    span: Span
    token_ids: list[int]
    log_p: float
    is_best: bool
    n_forwards: int


class _Scores(NamedTuple):
    """Log-probabilities after a node's tokens: of the text's end, and of each child's token."""

    end: float
    children: list[tuple[float, Node]]


class Extractor:
    """One search. `context` holds the prompt, and `logits`, `[vocabulary]`, follow it."""

    def __init__(
        self,
        context: Context,
        logits: torch.Tensor,
        spans: SpanTrie,
        eos_ids: frozenset[int],
        watch: Watch,
        max_forwards: int = MAX_FORWARDS,
    ) -> None:
        self._context = context
        self._n_prompt = context.position
        self._spans = spans
        self._eos_ids = sorted(eos_ids)
        self._watch = watch
        self._max_forwards = max_forwards
        self._held: list[int] = []
        self._n_forwards = 0
        self._scores = {spans.root: self._scored(spans.root, logits)}

    def best(self) -> Extraction | None:
        """The most probable stretch; None when there is none, or the request was cancelled.

        Raises `DeadlineExceeded`.
        """
        with threads_here(1):
            return self._best()

    def _best(self) -> Extraction | None:
        order = count()
        queue: list[tuple[float, int, Node, Span | None]] = [
            (0.0, next(order), self._spans.root, None)
        ]
        ended: tuple[float, int, Node, Span | None] | None = None
        while queue:
            first = heapq.heappop(queue)
            cost, _, node, span = first
            if span is not None:
                return self._found(node, span, cost, is_best=True)
            scores = self._after(node)
            if scores is None:
                break
            for log_p, child in scores.children:
                heapq.heappush(queue, (cost - log_p, next(order), child, None))
            here = self._spans.ending(node)
            if here is not None:
                entry = (cost - scores.end, next(order), node, here)
                ended = entry if ended is None else min(ended, entry)
                heapq.heappush(queue, entry)
        if ended is None or ended[3] is None or self._watch.cancelled():
            return None
        return self._found(ended[2], ended[3], ended[0], is_best=False)

    def _found(self, node: Node, span: Span, cost: float, *, is_best: bool) -> Extraction:
        return Extraction(span, self._spans.path(node), -cost, is_best, self._n_forwards)

    def _after(self, node: Node) -> _Scores | None:
        """Scores after the node's tokens; None when no forward may be made for them."""
        if node not in self._scores:
            if self._n_forwards >= self._max_forwards or self._watch.cancelled():
                return None
            self._feed(node)
        return self._scores.pop(node)

    def _feed(self, node: Node) -> None:
        """Score the node and those that its way through the evidence leads to, in one forward."""
        path = self._spans.path(node, LOOKAHEAD)
        start = min(n_common(self._held, path), node.depth - 1)
        self._context.crop(self._n_prompt + start)
        logits = self._context.forward(path[start:])
        self._held = path
        self._n_forwards += 1
        at: Node | None = node
        for depth in range(node.depth, len(path) + 1):
            if at is None:
                break
            if at not in self._scores:
                self._scores[at] = self._scored(at, logits[depth - 1 - start])
            following = path[depth] if depth < len(path) else None
            at = next((c for token, c in self._spans.children(at) if token == following), None)

    def _scored(self, node: Node, logits: torch.Tensor) -> _Scores:
        log_p = logits.log_softmax(-1)
        found = list(self._spans.children(node))
        scores = log_p[[token for token, _ in found]].tolist()
        end = float(log_p[self._eos_ids].logsumexp(0))
        return _Scores(
            end, [(score, child) for score, (_, child) in zip(scores, found, strict=True)]
        )

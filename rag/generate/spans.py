"""The stretches of the evidence that can be an answer, as a trie over their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import regex

from rag.generate.language_model import Tokenizer
from rag.generate.monitors.token_trie import TokenTrie

_WORD = regex.compile(r"[$£€#]?[\p{L}\p{M}\p{N}_]+[%°]?")


class Span(NamedTuple):
    """`texts[text][start:end]`."""

    text: int
    start: int
    end: int


class Suffix(NamedTuple):
    """A text from the beginning of one of its words on; it can end after `ends[n]`'s keys.

    `ends[n]` is where in the text the first n tokens end, for every n at which a word ends.
    """

    token_ids: list[int]
    ends: dict[int, int]
    text: int
    start: int


class Node(NamedTuple):
    """Suffixes `first:last`, in their order, which all begin with the same `depth` tokens."""

    first: int
    last: int
    depth: int


class SpanTrie:
    """Every stretch from a word's beginning to a word's end, of at most `max_tokens` tokens.

    A stretch is tokenized by itself, as an answer would be: its first word without the space that
    stands before it in the text.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: Tokenizer, trie: TokenTrie, max_tokens: int
    ) -> None:
        suffixes = [
            suffix
            for number, text in enumerate(texts)
            for suffix in _suffixes(number, text, tokenizer, trie, max_tokens)
        ]
        self._suffixes = sorted(suffixes, key=lambda one: one.token_ids)
        self.root = Node(0, len(suffixes), 0)

    def children(self, node: Node) -> Iterator[tuple[int, Node]]:
        """The tokens that come next, each with where it leads."""
        longer = [
            at
            for at in range(node.first, node.last)
            if len(self._suffixes[at].token_ids) > node.depth
        ]
        for token_id, group in groupby(longer, lambda at: self._suffixes[at].token_ids[node.depth]):
            places = list(group)
            yield token_id, Node(places[0], places[-1] + 1, node.depth + 1)

    def path(self, node: Node, n_more: int = 0) -> list[int]:
        """The node's tokens, and up to `n_more` that one of its suffixes goes on with."""
        return self._suffixes[node.last - 1].token_ids[: node.depth + n_more]

    def ending(self, node: Node) -> Span | None:
        """The first place in the evidence of the stretch that ends here, if one does."""
        found = [
            Span(one.text, one.start, one.ends[node.depth])
            for one in self._suffixes[node.first : node.last]
            if node.depth in one.ends
        ]
        return min(found, default=None)


def _suffixes(
    number: int, text: str, tokenizer: Tokenizer, trie: TokenTrie, max_tokens: int
) -> Iterator[Suffix]:
    words = [found.span() for found in _WORD.finditer(text)]
    for at, (start, _) in enumerate(words):
        # A word is a token at least; where tokens reach over words, long stretches are lost.
        last = min(at + max_tokens, len(words)) - 1
        stretch = text[start : words[last][1]]
        token_ids = tokenizer.encode(stretch)[:max_tokens]
        ends = {end - start: end for _, end in words[at : last + 1]}
        n_chars = _chars_read(token_ids, stretch, trie)
        there = {n: ends[chars] for n, chars in enumerate(n_chars, 1) if chars in ends}
        yield Suffix(token_ids, there, number, start)
        # A token may reach beyond a word's end: the stretch up to there has other tokens.
        reached = max(n_chars, default=0)
        for end in (end for chars, end in ends.items() if chars < reached):
            if end not in there.values():
                own = tokenizer.encode(text[start:end])
                if len(own) <= max_tokens:
                    yield Suffix(own, {len(own): end}, number, start)


def _chars_read(token_ids: Sequence[int], text: str, trie: TokenTrie) -> list[int]:
    """How many whole characters of `text` each beginning of the tokens spells; -1 inside one."""
    n_bytes = accumulate(len(trie.spelled[id_] or b"") for id_ in token_ids)
    boundaries = {n: at for at, n in enumerate(accumulate(map(_utf8_size, text), initial=0))}
    return [boundaries.get(n, -1) for n in n_bytes]


def _utf8_size(ch: str) -> int:
    return len(ch.encode())

"""The reader in one call of compiled code for several documents: the same terms, no padding.

Torch's operations on so little are over before a thread has Python's lock back, so that threads
take turns at it; see `rag.models.fixed_encoder`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rag.gear.reader import TINY, SentenceReader
from rag.models.fixed_point import Floats
from rag.models.vector_code import compiled, larger

_TINY, _ONE = np.float32(TINY), np.float32(1)

SPECIAL = 2
"""Of a question's tokens: the first and the last."""

_SHORTEST = np.float32(1e-8)
"""Vectors count as at least so long."""


class ReaderWeights(NamedTuple):
    """What terms count: `means` and `peaks` `[layers]`, `heads` `[layers, heads]`, `length` `[1]`.

    `mix` `[3, d]` and its bias are a, b and c by question, `importance` and its a token's u and u'.
    """

    means: Floats
    peaks: Floats
    heads: Floats
    length: Floats
    mix: Floats
    mix_bias: Floats
    importance: Floats
    importance_bias: Floats


class FixedReading(NamedTuple):
    """A question and its fusion with b documents.

    `looked` `[layers, b, heads, longest]` is the attention of the question's own tokens, weighed;
    `fused` `[b, m, d]` its fused states, `asked` `[m, d]` its tokens' word vectors, and `weights`
    `[2, m]` how much each counts for its word and its state, 0 for special tokens. Of documents end
    to end (see `bounds` in `FixedFusion.fuse`) there are `states` `[n, d]`, the words' `ids` into
    `vectors`, and `owners`, the tokens' sentences, below 0 for none.
    """

    looked: Floats
    fused: Floats
    asked: Floats
    weights: Floats
    bounds: NDArray[np.int64]
    states: Floats
    ids: NDArray[np.int64]
    vectors: Floats
    owners: NDArray[np.int64]


def reader_weights(reader: SentenceReader) -> ReaderWeights:
    """As they are now."""
    own = [reader.means, reader.peaks, reader.heads, reader.length]
    dense = [part for one in (reader.mix, reader.importance) for part in (one.weight, one.bias)]
    return ReaderWeights(*(part.detach().numpy() for part in [*own, *dense]))


def importances(weights: ReaderWeights, asked: Floats) -> Floats:
    """Of a question's word vectors `[m, d]`, special ones first and last: `[3, m]`.

    How much each of its own tokens counts in attention, as a word and as a state: 1 in sum, or 0.
    """
    found = np.zeros((3, len(asked)), np.float32)
    if len(asked) > SPECIAL:
        logits = weights.importance @ asked[1:-1].T + weights.importance_bias[:, None]
        parts = np.exp(logits - logits.max(1, keepdims=True))
        found[:, 1:-1] = parts / parts.sum(1, keepdims=True)
    return found


@compiled
def read_sentences(read: FixedReading, weights: ReaderWeights, n_sentences: int) -> Floats:
    """`SentenceReader.forward`: scores `[b, S]`, -inf where a sentence has no token."""
    n_texts = len(read.bounds) - 1
    scores = np.empty((n_texts, n_sentences), np.float32)
    asked = _unit_rows(read.asked)
    for text in range(n_texts):
        first, last = read.bounds[text], read.bounds[text + 1]
        owners = read.owners[first:last]
        counts = np.zeros(n_sentences, np.float32)
        for owner in owners:
            if owner >= 0:
                counts[owner] += _ONE
        found = _attended(read.looked[:, text], owners, counts, weights)
        fused = read.fused[text]
        question = np.zeros(fused.shape[1], np.float32)
        for row in fused:
            _add_to(question, row)
        states = read.states[first:last]
        alike = _likeness(question, states, owners, n_sentences)
        words = _met(asked, read.weights[0], read.vectors, read.ids[first:last], owners, counts, 3)
        meant = _met(
            _unit_rows(fused),
            read.weights[1],
            states,
            np.arange(last - first),
            owners,
            counts,
            1,
        )
        mixed = np.empty(3, np.float32)
        for kind in range(3):
            mixed[kind] = weights.mix_bias[kind]
            mixed[kind] += _dot(weights.mix[kind], question) / np.float32(len(fused))
        for sentence in range(n_sentences):
            score = found[sentence] + weights.length[0] * np.log(larger(counts[sentence], _ONE))
            score += mixed[0] * alike[sentence]
            score += mixed[1] * words[sentence] + mixed[2] * meant[sentence]
            scores[text, sentence] = score if counts[sentence] else -np.inf
    return scores


@compiled
def _attended(
    looked: Floats, owners: NDArray[np.int64], counts: Floats, weights: ReaderWeights
) -> Floats:
    """What attention `[layers, heads, longest]` says of each sentence."""
    n_layers, n_heads, _ = looked.shape
    scores = np.zeros(len(counts), np.float32)
    sums = np.empty((n_heads + 1, len(counts)), np.float32)
    peaks = np.empty(len(counts), np.float32)
    heads = np.float32(n_heads)
    for layer in range(n_layers):
        sums[:] = 0
        peaks[:] = 0
        for token in range(len(owners)):
            owner = owners[token]
            if owner < 0:
                continue
            total = np.float32(0)
            for head in range(n_heads):
                share = looked[layer, head, token]
                sums[head, owner] += share
                total += share
            sums[n_heads, owner] += total
            peaks[owner] = larger(peaks[owner], total)
        for sentence in range(len(counts)):
            count = larger(counts[sentence], _ONE)
            mean = sums[n_heads, sentence] / (count * heads)
            score = weights.means[layer] * np.log(mean + _TINY)
            score += weights.peaks[layer] * np.log(peaks[sentence] / heads + _TINY)
            for head in range(n_heads):
                share = sums[head, sentence] / count
                score += weights.heads[layer, head] * np.log(share + _TINY)
            scores[sentence] += score
    return scores


@compiled
def _likeness(
    question: Floats, states: Floats, owners: NDArray[np.int64], n_sentences: int
) -> Floats:
    """Cosine of a question with the mean of each sentence's states."""
    sums = np.zeros((n_sentences, len(question)), np.float32)
    for token in range(len(owners)):
        if owners[token] >= 0:
            _add_to(sums[owners[token]], states[token])
    length = larger(np.sqrt(_dot(question, question)), _SHORTEST)
    found = np.empty(n_sentences, np.float32)
    for sentence in range(n_sentences):
        total = sums[sentence]
        other = larger(np.sqrt(_dot(total, total)), _SHORTEST)
        found[sentence] = _dot(question, total) / (length * other)
    return found


@compiled
def _met(
    asked: Floats,
    weights: Floats,
    vectors: Floats,
    places: NDArray[np.int64],
    owners: NDArray[np.int64],
    counts: Floats,
    power: int,
) -> Floats:
    """Σ_m weights[m] · (largest cosine of row m with a sentence's tokens, none below 0)^power.

    `asked` `[m, d]` are of unit length; token n's vector is in row places[n].
    """
    peaks = np.zeros((len(counts), len(asked)), np.float32)
    for token in range(len(owners)):
        owner = owners[token]
        if owner < 0:
            continue
        vector = vectors[places[token]]
        inverse = _ONE / larger(np.sqrt(_dot(vector, vector)), _SHORTEST)
        for row in range(len(asked)):
            if weights[row]:
                cosine = _dot(asked[row], vector) * inverse
                peaks[owner, row] = larger(peaks[owner, row], cosine)
    found = np.zeros(len(counts), np.float32)
    for sentence in range(len(counts)):
        for row in range(len(asked)):
            found[sentence] += weights[row] * peaks[sentence, row] ** power
    return found


@compiled
def _unit_rows(rows: Floats) -> Floats:
    found = np.empty(rows.shape, np.float32)
    for row in range(len(rows)):
        factor = _ONE / larger(np.sqrt(_dot(rows[row], rows[row])), _SHORTEST)
        for place in range(rows.shape[1]):
            found[row, place] = rows[row, place] * factor
    return found


@compiled
def _dot(one: Floats, other: Floats) -> np.float32:
    total = np.float32(0)
    for place in range(len(one)):
        total += one[place] * other[place]
    return total


@compiled
def _add_to(sums: Floats, values: Floats) -> None:
    for place in range(len(values)):
        sums[place] += values[place]

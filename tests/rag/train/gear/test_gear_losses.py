"""The losses against their formulas, the queue against a list, the made questions against rules."""

from __future__ import annotations

import math

import pytest
import torch
from toy_gear import toy_network

from rag.gear.reading import GearTokens
from rag.train.gear.examples import Example, answering
from rag.train.gear.losses import IGNORED, contrastive, located, written
from rag.train.gear.momentum import MomentumQueue
from rag.train.gear.recipe import GearLossConfig, GearModelConfig, SynthesisConfig
from rag.train.gear.rows import RowMaker
from rag.train.gear.synthesis import make_questions
from rag.train.pairs import text_digest

TEXT = "The tree is red. The road is blue. The tree is old."


def test_contrastive_is_info_nce_both_ways_without_the_masked():
    questions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    documents = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    others = torch.tensor([[0.0, 1.0], [0.8, 0.6]])
    masked = torch.tensor([[False, False, False, False], [False, False, True, False]])
    found = contrastive(questions, documents, others, masked, 0.5)
    rows = [[1.0, 0.6, 0.0, 0.8], [0.0, 0.8, 0.6]]
    there = [
        math.log(sum(math.exp(s / 0.5) for s in row)) - row[place] / 0.5
        for place, row in enumerate(rows)
    ]
    columns = [[1.0, 0.0], [0.6, 0.8]]
    back = [
        math.log(sum(math.exp(s / 0.5) for s in column)) - column[place] / 0.5
        for place, column in enumerate(columns)
    ]
    assert float(found) == pytest.approx((sum(there) / 2 + sum(back) / 2) / 2, rel=1e-5)


def test_located_sums_the_shares_of_all_answering_sentences():
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.9, 0.0], [0.3, 0.3, 0.4]])
    found = located(shares, [[0, 2], [1], []])
    assert float(found) == pytest.approx(-math.log(0.75) - math.log(0.9), rel=1e-5)


def test_written_passes_over_padding():
    logits = torch.randn(3, 5)
    whole = written(logits[:2], torch.tensor([1, 4]))
    assert float(written(logits, torch.tensor([1, 4, IGNORED]))) == pytest.approx(float(whole))


def test_the_queue_keeps_the_newest_documents(base):
    network = toy_network(base)
    queue = MomentumQueue(network.upper, network.base.upper(2), 5, 0.9)
    kept: list[tuple[int, int]] = []
    for batch in range(4):
        origins = [(0, 3 * batch + n) for n in range(3)]
        queue.push(torch.full((3, 16), float(batch)), origins)
        kept = (kept + origins)[-5:]
        assert sorted(map(tuple, queue.origins[queue.held()].tolist())) == sorted(kept)
        for place in queue.held().tolist():
            assert float(queue.vectors[place, 0]) == queue.origins[place, 1].item() // 3


def test_the_copy_follows_slowly(base):
    network = toy_network(base)
    copied = network.base.upper(2)
    queue = MomentumQueue(network.upper, copied, 0, 0.75)
    name = "encoder.layer.2.output.dense.weight"
    before = copied.published()[name].clone()
    with torch.no_grad():
        network.upper.published()[name].add_(1.0)
    queue.follow()
    expected = 0.75 * before + 0.25 * network.upper.published()[name]
    assert torch.allclose(copied.published()[name], expected)
    queue.push(torch.zeros(2, 16), [(0, 0), (0, 1)])
    assert not len(queue.held())


def test_answering_sentences_share_the_most_with_the_question():
    assert answering(TEXT, "what is red?", ["red"]) == [0]
    assert answering(TEXT, "how old is the tree?", ["tree"]) == [2]


def test_a_row_is_the_window_that_tells(base):
    tokens = GearTokens(base)
    text = " ".join(f"Road {n} is a road." for n in range(12)) + " The tree is red."
    loss = GearLossConfig(max_tokens=40, sentences=1.0, max_words=20)
    maker = RowMaker(tokens, GearModelConfig(), loss)
    example = Example(0, 0, "what is red?", "t", text, [12], "tree", 0, [("", "No."), ("", "")])
    import numpy as np

    row = maker.row(example, np.random.default_rng(0))
    assert len(row.document) == len(row.owners) <= 40
    (gold,) = row.gold
    assert gold == max(row.owners)
    words = [token for token, owner in zip(row.document, row.owners, strict=True) if owner == gold]
    assert words == tokens.ids("The tree is red.")
    answer, sentence = row.targets
    assert answer == [tokens.answer_mark, *tokens.ids("tree"), tokens.last]
    assert sentence == [tokens.sentence_mark, *words, tokens.last]
    assert row.negatives[1] == [tokens.first, tokens.last]


def test_made_questions_ask_for_what_their_sentence_alone_says(data):
    config = SynthesisConfig("passages.jsonl.gz", ("toy",), n_passages=20)
    made, digest = make_questions(data, config, frozenset(), 3)
    assert made
    assert (made, digest) == make_questions(data, config, frozenset(), 3)
    assert digest != make_questions(data, config, frozenset(), 4)[1]
    from indexes.sentences import sentence_spans

    for one in made:
        start, end = sentence_spans(one.text)[one.sentence]
        assert one.answer in one.text[start:end]
        assert one.answer.lower() not in one.question
    assert len({one.question for one in made}) == len(made)
    never = frozenset(text_digest(one.text) for one in made[:3])
    fewer, _ = make_questions(data, config, never, 3)
    assert never.isdisjoint(text_digest(one.text) for one in fewer)
    assert (
        make_questions(data, SynthesisConfig("passages.jsonl.gz", ("no",)), frozenset(), 3)[0] == []
    )

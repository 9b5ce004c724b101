"""The ways an evaluation shortens evidence."""

from __future__ import annotations

import pytest

from eval.ask import AnswerPlan, answer_request
from eval.compressors import PARTS, IdfWords, RandomWords, compressing_service, compression
from eval.configuration import answer_config
from indexes.errors import UsageError
from rag.config import Settings

TEXTS = ["the owl hunts the mouse", "the owl sleeps", "the mole digs, the owl hears"]


def test_random_words_are_the_same_every_time():
    first, again = RandomWords().score(TEXTS, "", "mean"), RandomWords().score(TEXTS, "?", "mean")
    assert first == again
    assert all(len(one.words) == len(one.scores) > 0 for one in first)


def test_rare_words_score_highest():
    (scored,) = IdfWords(TEXTS).score(["The owl digs a hole"], "", "mean")
    the, owl, digs, a, hole = scored.scores
    assert the == owl == 0
    assert a == hole == pytest.approx(1)
    assert 0 < digs <= 1


def test_what_is_asked_for_is_what_is_done_and_recorded(tmp_path):
    for how in PARTS:
        plan = AnswerPlan(compress=compression(0.3, how), compress_by=how)
        assert answer_request("i", "?", plan).compress.rate == 0.3
        recorded = answer_config(plan, Settings())["compress"]
        assert (recorded["by"], recorded["rate"]) == (how, 0.3)
    assert answer_config(AnswerPlan(), Settings())["compress"] is None
    settings = Settings(root=tmp_path, cache=tmp_path)
    plan = AnswerPlan(compress=compression(0.5, "random"), compress_by="random")
    assert compressing_service(settings, plan, "i").compressor().scorer.name == "random"
    plan = AnswerPlan(compress=compression(0.5, "llmlingua"), compress_by="llmlingua")
    with pytest.raises(UsageError, match="no token classifier"):
        compressing_service(settings, plan, "i")

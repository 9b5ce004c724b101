"""The ways an evaluation shortens evidence."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from eval.ask import AnswerPlan, answer_request, ask_each_way
from eval.commands.flags import add_answer_flags, add_search_flags, answer_plan, answer_plans
from eval.commands.ways import way_path
from eval.compressing import compressing_service
from eval.compressors import PARTS, IdfWords, RandomWords, compression
from eval.configuration import answer_config
from indexes.errors import InvalidInput, UsageError
from rag.answer import AnswerResponse, DecodeReport, Usage
from rag.config import Settings
from rag.progress import Silent

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
    settings = Settings(root=tmp_path, cache=tmp_path, compressor="none")
    plan = AnswerPlan(compress=compression(0.5, "random"), compress_by="random")
    service = compressing_service(settings, {"none": AnswerPlan(), "random@0.5": plan}, "i")
    service.choose("random@0.5")
    assert service.compressor().scorer.name == "random"
    service.choose("none")
    assert service.compressor().scorer is None
    plan = AnswerPlan(compress=compression(0.5, "llmlingua"), compress_by="llmlingua")
    with pytest.raises(UsageError, match="no token classifier"):
        compressing_service(settings, {"llmlingua@0.5": plan}, "i")


def flags(*given):
    parser = argparse.ArgumentParser()
    add_search_flags(parser)
    add_answer_flags(parser, limit=3)
    return parser.parse_args(given)


def test_several_rates_and_ways_are_plans_by_name():
    plans = answer_plans(flags("--compress", "1,0.5,0.2", "--compress-by", "auto,idf"))
    assert list(plans) == ["none", "auto@0.5", "idf@0.5", "auto@0.2", "idf@0.2"]
    assert plans["none"].compress is None
    assert (plans["idf@0.2"].compress_by, plans["idf@0.2"].compress.rate) == ("idf", 0.2)
    assert list(answer_plans(flags())) == ["none"]
    assert answer_plan(flags("--compress", "0.5")).compress.rate == 0.5
    with pytest.raises(UsageError, match="one of each"):
        answer_plan(flags("--compress", "0.5,0.2"))
    for wrong in (["--compress", "a"], ["--compress", "2"], ["--compress-by", "best"]):
        with pytest.raises((UsageError, InvalidInput)):
            answer_plans(flags(*wrong))


def test_each_way_has_a_file_of_its_own():
    out = Path("runs/answers.jsonl.gz")
    assert way_path(out, "none", alone=True) == out
    assert way_path(out, "auto@0.5", alone=False).name == "answers.auto@0.5.jsonl.gz"


class Answers:
    """Stands in for a service: it says which way and which question it was asked."""

    def __init__(self):
        self.asked = []

    def generator(self):
        pass

    def answer(self, request):
        self.asked.append(request)
        return AnswerResponse("", "", 0, "ok", request, [], [], Usage(), DecodeReport(), {"t": 1.0})


def test_ways_take_turns_at_being_first():
    service, chosen = Answers(), []
    requests = {way: {q: f"{way}{q}" for q in "123"} for way in "ab"}
    found = ask_each_way(service, requests, Silent(), chosen.append)
    assert service.asked == ["a1", "b1", "b2", "a2", "a3", "b3"]
    assert chosen == ["a", "b", "b", "a", "a", "b"]
    assert {way: list(one.responses) for way, one in found.items()} == {
        "a": [*"123"],
        "b": [*"123"],
    }
    assert found["a"].responses["2"].answer == "a2"

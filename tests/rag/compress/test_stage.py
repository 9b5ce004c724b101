"""The stage in the pipeline: what the model reads of hits."""

from __future__ import annotations

import msgspec
from test_compressor import Hashed, Letters
from toy_classifiers import PROSE

from rag.compress.compression import Compression, Passage
from rag.compress.compressor import Compressor
from rag.compress.stage import shorten
from rag.search import Highlight, Hit, StageScore


def hit(key, text, *, title="", score=1.0):
    return Hit(key, 1, score, {"bm25": StageScore(1, score)}, title, text)


def test_hits_keep_all_but_their_text():
    hits = [hit("a", PROSE, title="Report"), hit("b", PROSE.upper(), score=0.5)]
    shown, warnings = shorten(
        Compressor(Hashed()), "Who found radium?", hits, Compression(rate=0.3), Letters()
    )
    assert warnings == []
    assert [one.id for one in shown] == ["a", "b"]
    for before, after in zip(hits, shown, strict=True):
        assert msgspec.structs.replace(after, text=before.text) == before
        assert 0 < len(after.text) < len(before.text)
    assert len(shown[0].text) > len(shown[1].text)


def test_hits_without_a_word_left_are_not_shown():
    hits = [hit("a", "Radium glows."), hit("b", "Cats sleep."), hit("c", "", title="Radium")]
    shown, _ = shorten(Compressor(), "What does radium do?", hits, Compression(rate=0.5), Letters())
    assert [one.id for one in shown] == ["a", "c"]


def test_a_hit_of_a_search_is_a_passage():
    encoded = msgspec.json.encode([hit("a", PROSE, score=0.25)])
    (passage,) = msgspec.json.decode(encoded, type=list[Passage])
    assert (passage.text, passage.id, passage.score) == (PROSE, "a", 0.25)


def test_sentences_pointed_at_are_kept_whole():
    text = "Cats sleep all day. Radium glows green. Dogs bark at night."
    sentence = Highlight("text", 0, 19, "sentence")
    term = Highlight("text", 40, 44)
    for highlights, whole in (([sentence], True), ([term], False)):
        one = msgspec.structs.replace(hit("a", text), highlights=highlights)
        options = Compression(rate=0.4)
        shown, _ = shorten(Compressor(), "What glows green?", [one], options, Letters())
        assert ("Cats sleep all day." in shown[0].text) == whole

"""Exact extraction equals scoring every stretch of the evidence, one by one."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spelled_toys import spelled_model, tokens_over
from toy_models import ToyModel

from indexes.errors import DeadlineExceeded, InvalidInput
from rag.answer import Decode, Grammar
from rag.generate import extract
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.extract import Extraction, Extractor
from rag.generate.extracted import extracted
from rag.generate.language_model import LanguageModel
from rag.generate.monitors.vocabulary import vocabulary_of
from rag.generate.prefill import Watch
from rag.generate.prefix_cache import PrefixCache
from rag.generate.shown import Shown
from rag.generate.spans import SpanTrie
from rag.generate.torch_model import TorchModel
from rag.generate.writing import write

WORDS = [
    "the",
    "dodo",
    "lived",
    "on",
    "an",
    "island",
    "of",
    "1.5",
    "km,",
    "far",
    "(away)",
    "été",
    "50%",
    "$3",
    "né",
]


def never() -> Watch:
    return Watch(None, None, lambda: 0.0)


def stretches(texts: Sequence[str]) -> list[str]:
    """Every stretch from the beginning of a word to the end of one."""
    found = []
    for text in texts:
        words = [m.span() for m in re.finditer(r"[$£€#]?\w+[%°]?", text)]
        found += [text[a:d] for i, (a, _) in enumerate(words) for _, d in words[i:]]
    return found


def log_p(model: LanguageModel, prompt: list[int], token_ids: list[int]) -> float:
    """log P(tokens, end | prompt), from one fresh forward."""
    rows = model.open_context().forward([*prompt, *token_ids])[len(prompt) - 1 :].log_softmax(-1)
    inside = sum(float(rows[n, token]) for n, token in enumerate(token_ids))
    return inside + float(rows[-1, sorted(model.eos_ids)].logsumexp(0))


def best_of_all(model: LanguageModel, prompt: list[int], texts: Sequence[str], most: int) -> dict:
    return {
        stretch: log_p(model, prompt, token_ids)
        for stretch in dict.fromkeys(stretches(texts))
        if len(token_ids := model.tokenizer.encode(stretch)) <= most
    }


def extract_best(
    model: LanguageModel, prompt: list[int], texts: Sequence[str], most: int, **options: int
) -> Extraction | None:
    context = model.open_context()
    logits = context.forward(prompt)[-1]
    spans = SpanTrie(texts, model.tokenizer, vocabulary_of(model).trie, most)
    return Extractor(context, logits, spans, model.eos_ids, never(), **options).best()


def text_of(texts: Sequence[str], found: Extraction) -> str:
    return texts[found.span.text][found.span.start : found.span.end]


def random_passage(rng: random.Random, n_words: int) -> str:
    return " ".join(rng.choices(WORDS, k=n_words))


def check_passages(model: TorchModel, n_passages: int, seed: int) -> None:
    rng = random.Random(seed)
    prompt = model.tokenizer.encode("Q?")
    n_forwards = n_stretches = 0
    for _ in range(n_passages):
        texts = [random_passage(rng, rng.randint(1, 4)) for _ in range(rng.randint(1, 2))]
        scored = best_of_all(model, prompt, texts, 30)
        found = extract_best(model, prompt, texts, 30)
        assert found is not None
        assert found.is_best
        assert found.log_p == pytest.approx(max(scored.values()), abs=1e-3)
        assert scored[text_of(texts, found)] == pytest.approx(found.log_p, abs=1e-3)
        n_forwards += found.n_forwards
        n_stretches += len(scored)
    assert n_forwards < n_stretches


def test_it_is_the_best_of_all_stretches(tiny: TorchModel) -> None:
    check_passages(tiny, 8, seed=1)


@pytest.mark.slow
def test_it_is_the_best_of_all_stretches_on_200_passages(tiny: TorchModel) -> None:
    check_passages(tiny, 200, seed=2)


@pytest.mark.slow
@given(tokens_over("ab 1"), st.lists(st.text("ab 1", max_size=12), min_size=1, max_size=3),
       st.integers(0, 10**6), st.integers(1, 8))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_with_any_tokens(tokens, texts: list[str], seed: int, most: int) -> None:
    assume(not any(re.search(rb"\S\s+\S", token) for token in tokens))  # a word is a token at least
    model = spelled_model(tokens, seed=seed, order=3)
    scored = best_of_all(model, [0], texts, most)
    found = extract_best(model, [0], texts, most)
    if found is None:
        assert not any(scored)
        return
    assert found.is_best
    # A stretch may also be spelled as the beginning of a longer one is, so not the other way round.
    assert found.log_p >= max(scored.values(), default=-1e9) - 1e-4
    spelled = b"".join(model.tokenizer.trie.spelled[t] for t in found.token_ids).decode()
    assert spelled == text_of(texts, found)
    assert found.log_p == pytest.approx(log_p(model, [0], found.token_ids), abs=1e-4)


def test_a_token_that_reaches_beyond_a_word() -> None:
    model = spelled_model([b" ", b"1", b"a", b"1 "], seed=0, order=3)
    scored = best_of_all(model, [0], ["1 a"], 2)
    found = extract_best(model, [0], ["1 a"], 2)
    assert found.log_p == pytest.approx(max(scored.values()), abs=1e-4)


def test_of_equal_stretches_the_first_place_is_told() -> None:
    model = spelled_model([b"a", b"b", b" "], seed=3)
    found = extract_best(model, [0], ["b a", "a b"], 1)
    assert found.span == ((0, 2, 3) if text_of(["b a", "a b"], found) == "a" else (0, 0, 1))


def test_a_search_that_stops_at_the_first_end_is_worse(monkeypatch) -> None:
    """Negative control: greedy search over the same trie misses the best."""
    rng, n_worse = random.Random(4), 0
    for seed in range(25):
        model = spelled_model([b"a", b"b", b"c", b" "], seed=seed, sharpness=1.0)
        texts = ["".join(rng.choices("abc ", k=14))]
        best = extract_best(model, [0], texts, 8)
        monkeypatch.setattr(extract.heapq, "heappop", lambda queue: queue.pop())
        greedy = extract_best(model, [0], texts, 8)
        monkeypatch.undo()
        n_worse += greedy.log_p < best.log_p - 1e-6
    assert n_worse > 5


def test_a_search_cut_short_says_so() -> None:
    texts, n_short = ["ab ba aab bba ab abab"], 0
    for seed in range(8):
        model = spelled_model([b"a", b"b", b" "], seed=seed, sharpness=0.3)
        whole = extract_best(model, [0], texts, 20)
        limit = whole.n_forwards - 1
        short = extract_best(model, [0], texts, 20, max_forwards=limit)
        if short is not None:
            n_short += 1
            assert (short.is_best, short.n_forwards) == (False, limit)
            assert short.log_p <= whole.log_p + 1e-6
    assert n_short > 3


def test_looking_ahead_saves_forwards(monkeypatch) -> None:
    model = spelled_model([b"a", b"b", b" "], seed=3, sharpness=0.1)
    ahead = extract_best(model, [0], ["ab ba aab bba"], 20)
    monkeypatch.setattr(extract, "LOOKAHEAD", 0)
    without = extract_best(model, [0], ["ab ba aab bba"], 20)
    assert ahead.token_ids == without.token_ids
    assert ahead.n_forwards < without.n_forwards


SHOWN = Shown(["the dodo lived on an island", ""], "Where?", list)


def test_extraction_is_a_way_to_write(tiny: TorchModel) -> None:
    prompt = tiny.tokenizer.encode("Where?")
    pieces: list[str] = []
    memory = DraftMemory(prefixes=PrefixCache(tiny, 10**7))
    for _ in range(2):
        written = write(
            tiny, prompt, Decode(20, mode="extract"), SHOWN, Drafting(memory), on_text=pieces.append
        )
    text = written.generation.text
    assert text in SHOWN.texts[0]
    assert text in stretches(SHOWN.texts)
    assert pieces == [text, text]
    assert (written.report.mode, written.report.drafter) == ("extract", "none")
    assert written.report.finish_reason == "stop"
    assert len(tiny.tokenizer.encode(text)) <= 20
    decode = Decode(5, mode="auto")
    assert write(tiny, prompt, decode, SHOWN, Drafting(memory)).report.mode == "extract"
    asked = msgspec.structs.replace(SHOWN, question="Why?")
    assert write(tiny, prompt, decode, asked, Drafting(memory)).report.mode == "free"


def test_nothing_to_extract(tiny: TorchModel) -> None:
    nothing = extracted(tiny, [65], Decode(mode="extract"), Shown(["?!"], "", list), never())
    assert (nothing.text, nothing.finish_reason, nothing.token_ids) == ("", "stop", [])


def test_cancelling_and_deadline(tiny: TorchModel) -> None:
    cancel = threading.Event()
    cancel.set()
    made = extracted(tiny, [65], Decode(), SHOWN, Watch(cancel, None, lambda: 0.0))
    assert (made.text, made.finish_reason) == ("", "cancelled")
    times = iter(range(100))
    with pytest.raises(DeadlineExceeded):
        extracted(tiny, [65], Decode(), SHOWN, Watch(None, 4.0, lambda: float(next(times))))
    late = threading.Event()

    class Late(ToyModel):
        def open_context(self):
            context = super().open_context()
            feed = context.forward

            def forward(token_ids, *, last_only=False):
                if context.position > 3:
                    late.set()
                return feed(token_ids, last_only=last_only)

            context.forward = forward
            return context

    model = spelled_model([b"a", b"b", b" "], seed=3)
    model.__class__ = Late
    shown = Shown(["ab ba aab bba ab abab"], "", list)
    made = extracted(model, [0, 1, 2], Decode(), shown, Watch(late, None, lambda: 0.0))
    assert made.finish_reason == "cancelled"


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"faithful": "cad"},
        {"monitors": ["quote"]},
        {"grammar": Grammar(regex="a")},
    ],
)
def test_options_that_contradict(tiny: TorchModel, options) -> None:
    with pytest.raises(InvalidInput):
        extracted(tiny, [65], Decode(mode="extract", **options), SHOWN, never())
    with pytest.raises(InvalidInput, match="evidence"):
        extracted(tiny, [65], Decode(mode="extract"), Shown([""], "", list), never())
    with pytest.raises(InvalidInput):
        extracted(tiny, [65] * 65, Decode(mode="extract"), SHOWN, never())

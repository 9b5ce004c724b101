"""Requests that decode together get what they would get alone, and none can spoil another's."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import N_TOKENS, save_tiny_decoder
from toy_models import ToyModel

from indexes.errors import InvalidInput, ModelError
from rag.answer import Decode
from rag.generate.batching import BatchedModel
from rag.generate.language_model import Feed
from rag.generate.loop import generate
from rag.generate.onnx_cache import FIRST_CAPACITY
from rag.generate.onnx_model import SLOTS, OnnxModel, load_onnx_model
from rag.generate.torch_model import load_torch_model
from rag.generate.turns import PIECE_TOKENS, STEP_TOKENS, Job, Turns
from rag.models.optimize import optimize
from rag.models.resolver import resolve

KINDS = ("llama", "mistral")
PATIENCE_S = 30.0


class Models(msgspec.Struct, frozen=True):
    fp32: OnnxModel
    int4: OnnxModel
    int8: OnnxModel
    torch: Any


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Models]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = tmp_path_factory.mktemp("cache")
    made = {}
    for kind in KINDS:
        folder = save_tiny_decoder(tmp_path_factory.mktemp(kind), kind)
        resolved = resolve(str(folder), cache)
        graphs = [optimize(resolved, cache, precision) for precision in ("fp32", "int4", "int8")]
        onnx = [load_onnx_model(resolved, graph, n_threads=1) for graph in graphs]
        made[kind] = Models(*onnx, load_torch_model(folder, name="tiny"))
    yield made
    torch.set_num_threads(before)


def tokens(n_tokens: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(N_TOKENS - 1), k=n_tokens)


TURN = st.dictionaries(
    st.integers(0, 3), st.tuples(st.integers(1, 12), st.integers(0, 5)), min_size=1, max_size=4
)


@pytest.mark.parametrize("kind", KINDS)
@given(turns=st.lists(TURN, min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_together_equals_alone(
    models: dict[str, Models], kind: str, turns: list[dict[int, tuple[int, int]]], seed: int
) -> None:
    """Any sequences in any turn, each with any number of tokens, then cropped."""
    model = models[kind].fp32
    together = [model.open_context() for _ in range(4)]
    alone = [model.open_context() for _ in range(4)]
    draw = random.Random(seed)
    for turn in turns:
        feeds = [
            Feed(together[n], tokens(size, draw.randrange(1000)), draw.random() < 0.3)
            for n, (size, _) in turn.items()
        ]
        found = model.forward_together(feeds)
        for (n, (_, crop)), feed, logits in zip(turn.items(), feeds, found, strict=True):
            expected = alone[n].forward(feed.token_ids, last_only=feed.last_only)
            torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
            for context in (together[n], alone[n]):
                context.crop(max(0, context.position - crop))
        assert [one.position for one in together] == [one.position for one in alone]


@pytest.mark.parametrize("precision", ["fp32", "int4", "int8"])
@pytest.mark.parametrize("kind", KINDS)
@given(sizes=st.lists(st.integers(1, 12), min_size=20, max_size=20), crop=st.integers(0, 30))
@settings(max_examples=10, deadline=None)
def test_pieces_and_crops_change_no_bit(
    models: dict[str, Models], kind: str, precision: str, sizes: list[int], crop: int
) -> None:
    """Alone, what was fed before and how is forgotten, also where activations are rounded."""
    model = getattr(models[kind], precision)
    token_ids = tokens(60, seed=1)
    expected = model.open_context().forward(token_ids)
    context = model.open_context()
    context.forward(tokens(crop + 5, seed=2))
    context.crop(0)
    for size in sizes:
        start = context.position
        if start < len(token_ids):
            logits = context.forward(token_ids[start : start + size])
            assert torch.equal(logits, expected[start : start + size])
    context.crop(max(0, context.position - crop))
    start = context.position
    if start < len(token_ids):
        assert torch.equal(context.forward(token_ids[start:]), expected[start:])


def test_slots_grow_and_keep_what_they_hold(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    texts = [tokens(2 * FIRST_CAPACITY, seed) for seed in range(3)]
    expected = [model.open_context().forward(text) for text in texts]
    contexts = [model.open_context() for _ in texts]
    for start in range(0, 2 * FIRST_CAPACITY, 64):
        feeds = [
            Feed(context, text[start : start + 64], False)
            for context, text in zip(contexts, texts, strict=True)
        ]
        for logits, rows in zip(model.forward_together(feeds), expected, strict=True):
            torch.testing.assert_close(logits, rows[start : start + 64], atol=1e-3, rtol=1e-4)


def test_up_to_the_end_of_the_context_together(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    end = model.context_length
    texts = [tokens(end, seed) for seed in range(2)]
    expected = [model.open_context().forward(text)[-3:] for text in texts]
    contexts = [model.open_context() for _ in texts]
    for context, text, left in zip(contexts, texts, (1, 3), strict=True):
        context.forward(text[: end - left])
    feeds = [Feed(contexts[0], texts[0][-1:], False), Feed(contexts[1], texts[1][-3:], False)]
    found = model.forward_together(feeds)
    torch.testing.assert_close(found[0], expected[0][-1:], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found[1], expected[1], atol=1e-3, rtol=1e-4)


def test_more_sequences_than_slots(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    contexts = [model.open_context() for _ in range(SLOTS + 3)]
    expected = model.open_context().forward([5, 6])
    for _ in range(2):
        for logits in model.forward_together([Feed(one, [5, 6], False) for one in contexts]):
            torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
        for context in contexts:
            context.crop(0)
    assert model.slots.n_taken == SLOTS


def test_a_slot_can_be_forked_and_fed_alone(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    contexts = [model.open_context() for _ in range(2)]
    text = tokens(20, seed=4)
    expected = model.open_context().forward([*text, 1, 2])[-2:]
    model.forward_together([Feed(one, text, True) for one in contexts])
    fork = contexts[1].fork(len(text))
    model.forward_together([Feed(one, [7], False) for one in contexts])
    contexts[0].crop(len(text))
    for context in (fork, contexts[0]):
        torch.testing.assert_close(context.forward([1, 2]), expected, atol=1e-3, rtol=1e-4)
    assert fork.n_bytes == model.open_context().n_bytes


def test_a_slot_is_free_as_soon_as_its_context_is_gone(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    gc.collect()
    assert model.slots.n_taken == 0
    contexts = [model.open_context() for _ in range(3)]
    model.forward_together([Feed(one, [1], False) for one in contexts])
    assert model.slots.n_taken == 3
    gc.disable()
    try:
        del contexts[1]
        assert model.slots.n_taken == 2
        contexts.append(model.open_context())
        model.forward_together([Feed(one, [1], False) for one in contexts])
        assert model.slots.n_taken == 3
        contexts.clear()
        assert model.slots.n_taken == 0
        with pytest.raises(LookupError):
            _ = model.slots.cache
    finally:
        gc.enable()


@pytest.mark.parametrize("backend", ["fp32", "torch"])
@pytest.mark.parametrize("drafter", ["none", "auto"])
def test_requests_at_once_get_their_own_texts(
    models: dict[str, Models], backend: str, drafter: str
) -> None:
    model = BatchedModel(getattr(models["llama"], backend))
    prompts = [tokens(3 + 11 * seed, seed) for seed in range(8)]
    decode = Decode(24, drafter=drafter)
    alone = [generate(model, prompt, decode).token_ids for prompt in prompts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompt: generate(model, prompt, decode), prompts))
    assert [one.token_ids for one in together] == alone


def test_a_cancelled_request_frees_its_slot_within_a_step(models: dict[str, Models]) -> None:
    onnx = models["llama"].fp32
    model = BatchedModel(onnx)
    prompts = [tokens(10, seed) for seed in range(3)]
    expected = [generate(model, prompt, Decode(400)).token_ids for prompt in prompts]
    cancel = threading.Event()

    def decode_until_cancelled(prompt: list[int]) -> list[list[int]]:
        texts = []
        while not cancel.is_set():
            texts.append(generate(model, prompt, Decode(400)).token_ids)
        return texts

    def watch(_: str) -> None:
        # A slot is taken by who was batched with another, whenever that happens.
        if onnx.slots.n_taken == 3:
            cancel.set()

    with ThreadPoolExecutor(2) as pool:
        kept = [pool.submit(decode_until_cancelled, prompt) for prompt in prompts[:2]]
        gives_up_at = time.monotonic() + PATIENCE_S
        try:
            while not cancel.is_set() and time.monotonic() < gives_up_at:
                gone = generate(model, prompts[2], Decode(400), cancel=cancel, on_text=watch)
                n_after = onnx.slots.n_taken
        finally:
            cancel.set()
        for one, text in zip(kept, expected, strict=False):
            assert all(found == text for found in one.result())
    assert gone.finish_reason == "cancelled"
    assert gone.token_ids == expected[2][: len(gone.token_ids)]
    assert n_after <= 2
    assert onnx.slots.n_taken == 0


class Recorder:
    """A model that notes what is computed, in which thread, and waits at a gate before it does."""

    name = "recorder"
    tokenizer: Any = None
    context_length = 10_000
    vocabulary_size = 1
    eos_ids: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.runs: list[list[tuple[str, int]]] = []
        self.exact: list[bool] = []
        self.threads: list[int] = []
        self.faults: dict[str, BaseException] = {}

    def open_context(self) -> Recorded:
        return Recorded(self, "?")

    def forward_together(self, feeds: Sequence[Feed], *, exact: bool = False) -> list[torch.Tensor]:
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        self.exact.append(exact)
        self.runs.append([(feed.context.label, len(feed.token_ids)) for feed in feeds])
        self.threads.append(threading.get_ident())
        for feed in feeds:
            if feed.context.label in self.faults:
                raise self.faults[feed.context.label]
        return [torch.zeros(1 if feed.last_only else len(feed.token_ids), 1) for feed in feeds]


class Recorded:
    """A context of it that knows nothing but its name."""

    position = n_bytes = 0

    def __init__(self, model: Recorder, label: str) -> None:
        self._model = model
        self.label = label

    def crop(self, position: int) -> None:
        raise AssertionError

    def fork(self, position: int) -> Recorded:
        return Recorded(self._model, self.label)

    def forward(self, token_ids: Sequence[int], *, last_only: bool = False) -> torch.Tensor:
        return self._model.forward_together([Feed(self, token_ids, last_only)])[0]


class Stage:
    """Jobs that are put in line one after the other while the first is held at the gate."""

    def __init__(self, n_threads: int) -> None:
        self.model = Recorder()
        self.turns = Turns(self.model, time.perf_counter)
        self.contexts: dict[str, Recorded] = {}
        self.pool = ThreadPoolExecutor(n_threads)

    def hold(self, label: str, n_tokens: int) -> Future[torch.Tensor]:
        """Submit a job that is taken at once and waits at the gate."""
        self.model.gate.clear()
        future = self.pool.submit(self.turns.compute, self._job(label, n_tokens))
        assert self.model.entered.wait(PATIENCE_S)
        return future

    def submit(self, label: str, n_tokens: int) -> Future[torch.Tensor]:
        """Put a job in line behind those that wait already."""
        n_waiting = self.turns.n_waiting
        future = self.pool.submit(self.turns.compute, self._job(label, n_tokens))
        until(lambda: future.done() or self.turns.n_waiting > n_waiting)
        return future

    def submit_all(self, labels: str, n_tokens: int) -> Future[list[torch.Tensor]]:
        """Put jobs of one request in line."""
        n_waiting, wake = self.turns.n_waiting, threading.Event()
        jobs = [self._job(label, n_tokens, wake) for label in labels]
        future = self.pool.submit(self.turns.compute_all, jobs)
        until(lambda: future.done() or self.turns.n_waiting > n_waiting)
        return future

    def _job(self, label: str, n_tokens: int, wake: threading.Event | None = None) -> Job:
        context = self.contexts.setdefault(label, Recorded(self.model, label))
        return Job(context, [0] * n_tokens, last_only=True, wake=wake)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage(8)
    yield made
    made.model.gate.set()
    made.pool.shutdown()


def until(condition: Any) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.001)


def test_one_alone_computes_at_once_in_its_own_thread(stage: Stage) -> None:
    context = Recorded(stage.model, "a")
    stage.turns.compute(Job(Recorded(stage.model, "b"), [1], last_only=False))
    stage.turns.compute(Job(context, [1] * 700, last_only=False))
    stage.turns.compute(Job(context, [1], last_only=False))
    assert stage.model.runs == [[("b", 1)], [("a", 700)], [("a", 1)]]
    assert stage.model.threads == [threading.get_ident()] * 3


def test_steps_that_wait_go_together(stage: Stage) -> None:
    futures = [stage.hold("a", 1)]
    futures += [stage.submit(label, n) for label, n in (("b", 1), ("c", STEP_TOKENS), ("d", 3))]
    stage.model.gate.set()
    assert [len(future.result(PATIENCE_S)) for future in futures] == [1] * 4
    assert stage.model.runs == [[("a", 1)], [("b", 1), ("c", STEP_TOKENS), ("d", 3)]]


def test_one_requests_jobs_go_together_and_to_the_bit_when_alone(stage: Stage) -> None:
    alone = stage.submit_all("ab", 1)
    assert len(alone.result(PATIENCE_S)) == 2
    held = stage.hold("c", 1)
    beside = [stage.submit_all("ab", 2), stage.submit_all("d", 1)]
    stage.model.gate.set()
    for future in (held, *beside):
        future.result(PATIENCE_S)
    assert stage.model.runs == [
        [("a", 1), ("b", 1)],
        [("c", 1)],
        [("a", 2), ("b", 2), ("d", 1)],
    ]
    assert stage.model.exact == [True, False, False]


def test_one_requests_prompts_are_all_read(stage: Stage) -> None:
    """Jobs that no run takes together: their thread leads until the last of them is done."""
    held = stage.hold("a", 1)
    both, others = stage.submit_all("bc", 300), [stage.submit("d", 400), stage.submit("e", 1)]
    stage.model.gate.set()
    for future in (held, both, *others):
        future.result(PATIENCE_S)
    fed = [one for run in stage.model.runs for one in run]
    for label, n_tokens in (("a", 1), ("b", 300), ("c", 300), ("d", 400), ("e", 1)):
        assert sum(n for name, n in fed if name == label) == n_tokens
    assert stage.turns.n_waiting == 0


def test_one_of_a_requests_jobs_that_fails_fails_them(stage: Stage) -> None:
    stage.model.faults["bad"] = InvalidInput("spoilt")
    stage.contexts["x"] = Recorded(stage.model, "bad")
    held = stage.hold("a", 1)
    spoilt, good = stage.submit_all("bx", 1), stage.submit("c", 1)
    stage.model.gate.set()
    held.result(PATIENCE_S)
    assert len(good.result(PATIENCE_S)) == 1
    with pytest.raises(InvalidInput, match="spoilt"):
        spoilt.result(PATIENCE_S)
    assert stage.turns.n_waiting == 0


def test_prompts_and_steps_take_turns(stage: Stage) -> None:
    """Nobody starves: a prompt goes on after each batch, and steps after each of its pieces."""
    long = 2 * PIECE_TOKENS + 10
    futures = [stage.hold("a", 1), stage.submit("long", long), stage.submit("next", 500)]
    futures += [stage.submit("b", 1), stage.submit("c", 1)]
    stage.model.gate.set()
    for future in futures:
        future.result(PATIENCE_S)
    runs = [[label for label, _ in run] for run in stage.model.runs]
    assert runs[0] == ["a"]
    assert runs[1] == ["long"]
    assert runs[2] == ["b", "c"]
    assert set(map(tuple, runs[3:])) == {("long",), ("next",)}
    # First come, first served: the later prompt begins when the earlier is done.
    assert "long" not in [run[0] for run in runs[runs.index(["next"]) :]]
    sizes = [n for run in stage.model.runs for label, n in run if label == "long"]
    assert sizes[0] == PIECE_TOKENS
    assert sum(sizes) == long


def test_steps_keep_coming_and_a_prompt_is_read_all_the_same(stage: Stage) -> None:
    stop = threading.Event()

    def decode(label: str) -> int:
        context, n_steps = Recorded(stage.model, label), 0
        while not stop.is_set():
            stage.turns.compute(Job(context, [0], last_only=False))
            n_steps += 1
        return n_steps

    streams = [stage.pool.submit(decode, label) for label in "abc"]
    until(lambda: len(stage.model.runs) > 50)
    stage.submit("long", 40 * PIECE_TOKENS).result(PATIENCE_S)
    stop.set()
    assert all(stream.result(PATIENCE_S) > 0 for stream in streams)
    longest = max((n for run in stage.model.runs for label, n in run if label == "long"))
    assert longest >= PIECE_TOKENS


def test_an_exception_stays_with_its_request(stage: Stage) -> None:
    stage.model.faults["bad"] = InvalidInput("spoilt")
    held = stage.hold("a", 1)
    good, bad, fine = (stage.submit(label, 1) for label in ("b", "bad", "c"))
    stage.model.gate.set()
    assert len(held.result(PATIENCE_S)) == len(good.result(PATIENCE_S)) == 1
    assert len(fine.result(PATIENCE_S)) == 1
    with pytest.raises(InvalidInput, match="spoilt"):
        bad.result(PATIENCE_S)
    assert stage.model.runs[1:] == [
        [("b", 1), ("bad", 1), ("c", 1)],
        [("b", 1)],
        [("bad", 1)],
        [("c", 1)],
    ]


def test_an_interrupted_leader_leaves_the_lead_to_another(stage: Stage) -> None:
    stage.model.faults["a"] = KeyboardInterrupt()
    held = stage.hold("a", 1)
    rest = [stage.submit("b", 1), stage.submit("c", 200)]
    stage.model.gate.set()
    with pytest.raises(KeyboardInterrupt):
        held.result(PATIENCE_S)
    assert [len(future.result(PATIENCE_S)) for future in rest] == [1, 1]
    assert len(stage.submit("d", 1).result(PATIENCE_S)) == 1


def test_whoever_was_in_an_interrupted_batch_is_told(stage: Stage) -> None:
    stage.model.faults["b"] = KeyboardInterrupt()
    held = stage.hold("a", 1)
    leads, follows = stage.submit("b", 1), stage.submit("c", 1)
    stage.model.gate.set()
    held.result(PATIENCE_S)
    with pytest.raises(KeyboardInterrupt):
        leads.result(PATIENCE_S)
    with pytest.raises(ModelError, match="interrupted"):
        follows.result(PATIENCE_S)


def test_an_invalid_token_spoils_nobody_elses_step(models: dict[str, Models]) -> None:
    model = models["llama"].fp32
    expected = model.open_context().forward([1, 2])
    contexts = [model.open_context() for _ in range(3)]
    with pytest.raises(InvalidInput):
        model.forward_together(
            [Feed(contexts[0], [1], False), Feed(contexts[1], [N_TOKENS], False)]
        )
    assert [context.position for context in contexts] == [0, 0, 0]
    found = model.forward_together([Feed(contexts[n], [1, 2], False) for n in (0, 2)])
    torch.testing.assert_close(found[0], expected, atol=1e-3, rtol=1e-4)


def test_shares_of_a_batch_add_up(models: dict[str, Models]) -> None:
    ticks = iter(range(1000))
    turns = Turns(models["llama"].fp32, lambda: float(next(ticks)))
    job = Job(models["llama"].fp32.open_context(), [1, 2, 3], last_only=False)
    turns.compute(job)
    assert (job.share_s, job.load) == (1.0, 1)


def test_waiting_is_not_counted_as_work() -> None:
    """One holds the machine for a second of this clock, the other waits for it, then takes one."""
    recorder, now = Recorder(), 0.0
    model = BatchedModel(recorder, lambda: now)
    first, second = model.open_context(), model.open_context()
    recorder.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(first.forward, [1])
        assert recorder.entered.wait(PATIENCE_S)
        waits = pool.submit(second.forward, [1, 2])
        until(lambda: model.n_waiting == 1)
        now = 1.0
        recorder.gate.set()
        held.result(PATIENCE_S)
        waits.result(PATIENCE_S)
    assert (first.waited_s, second.waited_s) == (0.0, 1.0)
    assert (first.load, second.load) == (1, 2)
    for load in (2, 1):
        first.forward([1])
        assert first.load == load


def test_a_model_without_copies_is_refused(models: dict[str, Models]) -> None:
    with pytest.raises(ModelError, match="cannot be copied"):
        BatchedModel(ToyModel(5)).open_context()


def test_another_models_context_is_refused(models: dict[str, Models]) -> None:
    other = models["llama"].torch.open_context()
    with pytest.raises(InvalidInput, match="another"):
        models["llama"].fp32.forward_together([Feed(other, [1], False)])

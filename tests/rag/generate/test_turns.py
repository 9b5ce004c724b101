"""Whose turn it is: steps go together, prompts take turns with them, and faults stay apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import torch

from indexes.errors import InvalidInput, ModelError
from rag.generate.batching import BatchedModel
from rag.generate.language_model import Feed
from rag.generate.turns import PIECE_TOKENS, STEP_TOKENS, Job, Turns

PATIENCE_S = 30.0


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


def test_shares_of_a_batch_add_up() -> None:
    ticks = iter(range(1000))
    recorder = Recorder()
    turns = Turns(recorder, lambda: float(next(ticks)))
    job = Job(Recorded(recorder, "a"), [1, 2, 3], last_only=False)
    turns.compute(job)
    assert (job.share_s, job.load) == (1.0, 1)

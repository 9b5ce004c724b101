"""The loop, its order, its schedule and its files, on a model of three numbers."""

from __future__ import annotations

import math
import os
import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexes.errors import Cancelled, Conflict, ModelError
from rag.progress import Silent
from rag.train.checkpoint import State, load_tensors, read_state, write_state
from rag.train.curve import CurveFile, Point, read_curve
from rag.train.loop import train
from rag.train.order import MixedOrder, stream
from rag.train.plot import plot_curves
from rag.train.recipe import LoopConfig
from rag.train.run_lock import run_lock
from rag.train.schedule import learning_rate

CONFIG = LoopConfig(n_steps=20, batch_size=4, learning_rate=0.1, save_every=7, measure_every=5)


class Line:
    """Fits y = 2x + 1 from noisy examples; `tally` counts the updates."""

    def __init__(self, *, stops: dict[int, str] | None = None) -> None:
        self.weights = torch.nn.Parameter(torch.zeros(2))
        self.tally = torch.zeros(1)
        self.stops = stops or {}

    def parameters(self):
        return {"weights": self.weights}

    def tensors(self):
        return {"weights": self.weights, "tally": self.tally}

    def examples(self, step):
        return [(step * 4 + n) % 13 / 13 for n in range(4)]

    def losses(self, examples, step):
        x = torch.tensor(examples)
        error = self.weights[0] * x + self.weights[1] - (2 * x + 1) + 0.1 * torch.randn(len(x))
        loss = error.square().mean()
        if self.stops.get(step) == "nan":
            loss = loss * math.nan
        return {"loss": loss, "error": error.mean()}

    def after_update(self, step):
        self.tally += 1
        if self.stops.get(step) == "die":
            raise RuntimeError
        if self.stops.get(step) == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)

    def measure(self):
        off = self.weights.detach() - torch.tensor([2.0, 1.0])
        return {"closeness": -float(off.square().sum())}


def go(out: Path, config: LoopConfig = CONFIG, **stops: str):
    line = Line(stops={int(step[1:]): what for step, what in stops.items()})
    outcome = train(line, config, out, Silent(), fingerprint="f", pick="closeness")
    return line, outcome


@pytest.mark.slow
@pytest.mark.parametrize("step", range(20))
def test_killed_after_any_update_the_curve_and_the_weights_are_the_same(tmp_path, step):
    line, whole = go(tmp_path / "whole")
    with pytest.raises(RuntimeError):
        go(tmp_path / "cut", **{f"s{step}": "die"})
    again, outcome = go(tmp_path / "cut")
    curve = (tmp_path / "whole" / "curve.jsonl").read_bytes()
    assert (tmp_path / "cut" / "curve.jsonl").read_bytes() == curve
    assert torch.equal(again.weights, line.weights)
    assert outcome.best == whole.best
    assert outcome.sittings == 2


def test_a_polite_stop_keeps_every_step_done(tmp_path):
    with pytest.raises(Cancelled, match="after step 9"):
        go(tmp_path / "cut", s8="terminate")
    assert len(read_curve(tmp_path / "cut" / "curve.jsonl")) == 10
    line, _ = go(tmp_path / "cut")
    assert torch.equal(line.weights, go(tmp_path / "whole")[0].weights)


def test_the_best_state_is_what_is_left_in_the_model(tmp_path):
    """A learning rate that overshoots: the best was before the end."""
    config = msgspec.structs.replace(CONFIG, learning_rate=3.0, schedule="constant")
    line, outcome = go(tmp_path, config)
    points = {
        p.step: p.measures["closeness"] for p in read_curve(tmp_path / "curve.jsonl") if p.measures
    }
    assert set(points) == {0, 5, 10, 15, 20}
    assert outcome.best is not None
    assert outcome.best.measures["closeness"] == max(points.values()) == line.measure()["closeness"]
    assert outcome.best.step < 20
    assert line.tally.item() == outcome.best.step


def test_patience_ends_the_run(tmp_path):
    config = msgspec.structs.replace(CONFIG, learning_rate=3.0, schedule="constant", patience=1)
    _, outcome = go(tmp_path, config)
    assert outcome.n_steps < 20


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="step 10: the loss is nan"):
        go(tmp_path, s9="nan")
    assert go(tmp_path)[1].n_steps == 20


def test_accumulation_is_one_update(tmp_path):
    curves = []
    for parts in (1, 2, 4):
        config = msgspec.structs.replace(CONFIG, accumulate=parts, precision="float32")
        line = Line()
        line.losses = lambda examples, _, line=line: {  # type: ignore[method-assign]
            "loss": (line.weights[0] * torch.tensor(examples) - 1).square().mean()
        }
        train(line, config, tmp_path / str(parts), Silent(), fingerprint="f")
        curves.append([p.loss for p in read_curve(tmp_path / str(parts) / "curve.jsonl") if p.loss])
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert curves[2] == pytest.approx(curves[0], rel=1e-5)


def test_a_folder_of_another_run_is_refused(tmp_path):
    go(tmp_path)
    with pytest.raises(Conflict, match="--restart"):
        train(Line(), CONFIG, tmp_path, Silent(), fingerprint="other")


def test_two_processes_may_not_train_in_one_folder(tmp_path):
    with run_lock(tmp_path), pytest.raises(Conflict, match=str(os.getpid())), run_lock(tmp_path):
        pass
    with run_lock(tmp_path):
        pass


def test_a_damaged_checkpoint_is_said(tmp_path):
    go(tmp_path)
    (tmp_path / "checkpoint" / "state.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        go(tmp_path)


def test_obsolete_checkpoint_files_are_removed(tmp_path):
    state = State(fingerprint="f", step=1)
    write_state(tmp_path, state, {"a": torch.ones(2)}, None)
    kept = write_state(
        tmp_path, msgspec.structs.replace(state, step=2), {"a": torch.zeros(2)}, None
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.json", kept.file]
    assert read_state(tmp_path, "f") == kept
    live = torch.ones(2)
    load_tensors(tmp_path / kept.file, {"a": live})
    assert not live.any()
    with pytest.raises(ModelError, match="another model"):
        load_tensors(tmp_path / kept.file, {"b": live})


def test_a_line_cut_short_ends_the_curve(tmp_path):
    path = tmp_path / "curve.jsonl"
    with CurveFile(path, None) as curve:
        for step in range(1, 6):
            curve.add(Point(step=step, loss=0.5))
    path.write_bytes(path.read_bytes()[:-5])
    assert [point.step for point in read_curve(path)] == [1, 2, 3, 4]
    with CurveFile(path, 2):
        pass
    assert [point.step for point in read_curve(path)] == [1, 2]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    batch_size=st.integers(1, 6),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_sets_take_turns_by_weight_and_read_all_before_any_twice(sizes, batch_size, seed, data):
    weights = data.draw(st.lists(st.floats(0.1, 5), min_size=len(sizes), max_size=len(sizes)))
    n_steps = 30
    order = MixedOrder(sizes, weights, batch_size, seed)
    batches = [order.batch(step) for step in range(n_steps)]
    fresh = MixedOrder(sizes, weights, batch_size, seed)
    assert fresh.batch(n_steps - 1) == batches[-1]
    turns = Counter(batch.source for batch in batches)
    for source, size in enumerate(sizes):
        due = n_steps * weights[source] / sum(weights)
        assert abs(turns[source] - due) <= 1 + 1e-6
        read = [one for batch in batches if batch.source == source for one in batch.examples]
        counts = Counter(read)
        assert (
            max((counts[one] for one in range(size)), default=0)
            - min(counts[one] for one in range(size))
            <= 1
        )


@given(
    n=st.integers(1, 10), seed=st.integers(0, 9), first=st.integers(0, 40), many=st.integers(0, 30)
)
def test_a_stretch_of_the_stream_is_the_streams(n, seed, first, many):
    assert stream(n, seed, first, many) == stream(n, seed, 0, first + many)[first:]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_rises_to_its_peak_and_falls_as_said(schedule):
    config = LoopConfig(n_steps=100, learning_rate=1.0, warm_up=0.1, schedule=schedule)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    middle = {"linear": 0.5, "cosine": 0.5, "constant": 1.0}[schedule]
    assert rates[55] == pytest.approx(middle)
    late = {"linear": 0.1, "cosine": (1 + math.cos(0.9 * math.pi)) / 2, "constant": 1.0}[schedule]
    assert rates[91] == pytest.approx(late)
    assert rates[99] < 0.02 or schedule == "constant"
    assert all(a >= b for a, b in pairwise(rates[10:]))


@pytest.mark.slow
def test_the_plot_has_a_panel_for_each_quantity_and_the_same_bytes_twice():
    points = [Point(step=0, measures={"nDCG@10": 0.1})]
    points += [Point(n, 1 / n, 0.1, 1.0, {"terms_query": 20.0 + n}) for n in range(1, 30)]
    points.append(Point(30, 0.01, measures={"nDCG@10": 0.2}))
    drawn = plot_curves(points)
    for title in ("loss", "learning rate", "gradient norm", "terms_query", "nDCG@10"):
        assert f">{title}<" in drawn
    assert plot_curves(points) == drawn

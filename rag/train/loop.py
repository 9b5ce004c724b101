"""The training loop: every recipe's, resumable from any kill to the same loss curve.

A step depends on the parameters, the optimizer's state and (seed, step) alone: examples and random
numbers are drawn anew for each step. So what is restored from a checkpoint goes on exactly as if
it had never stopped; on one CPU thread to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from indexes.errors import Cancelled, ModelError
from rag.progress import Progress
from rag.train.checkpoint import (
    Best,
    State,
    best_file,
    load_tensors,
    read_state,
    write_state,
)
from rag.train.curve import CURVE, CurveFile, Point
from rag.train.recipe import LoopConfig
from rag.train.schedule import learning_rate
from rag.train.stopping import StopRequest
from rag.train.task import Task

CHECKPOINT = "checkpoint"


class Outcome(msgspec.Struct, frozen=True):
    """What a finished run came to. `first` was measured before it, `best` is what was kept.

    `best` is None when nothing was measured; then the last state was kept.
    """

    n_steps: int
    first: dict[str, float]
    best: Best | None
    train_s: float
    measure_s: float
    sittings: int


def train(
    task: Task,
    config: LoopConfig,
    out: Path,
    progress: Progress,
    *,
    fingerprint: str,
    device: str = "cpu",
    pick: str = "",
    finish: bool = False,
) -> Outcome:
    """Train, or go on where an earlier sitting stopped, and leave the best state in `task`.

    The best is the largest `pick` among the measures; the state before training counts too. With
    `finish` an interrupted run ends where it stands, measured once more.
    Raises `Cancelled` after SIGINT or SIGTERM, with a checkpoint written; `Conflict` when `out`
    holds another run; `ModelError` when the loss is no longer finite.
    """
    run = _Run(task, config, out, progress, device=device, pick=pick)
    with torch.random.fork_rng(), StopRequest() as stop:
        run.restore(fingerprint)
        with CurveFile(out / CURVE, run.state.step if run.resumed else None) as curve:
            if finish and run.resumed:
                run.end(curve)
            run.go(curve, stop)
    return run.outcome()


class _Run:
    """One sitting: owns the optimizer and the state."""

    def __init__(
        self,
        task: Task,
        config: LoopConfig,
        out: Path,
        progress: Progress,
        *,
        device: str,
        pick: str,
    ) -> None:
        self._task, self._config, self._progress = task, config, progress
        self._folder, self._pick, self._device = out / CHECKPOINT, pick, device
        self._optimizer = _optimizer(task, config)
        self._autocast = _autocast(config, device)
        self.state = State(fingerprint="")
        self.resumed = False
        self._best_is_new = False

    def restore(self, fingerprint: str) -> None:
        """Take up the state of an earlier sitting, if there is one."""
        found = read_state(self._folder, fingerprint)
        if found is None:
            self.state = State(fingerprint=fingerprint)
            return
        load_tensors(self._folder / found.file, self._live())
        self.resumed = True
        self.state = msgspec.structs.replace(found, sittings=found.sittings + (not found.finished))
        if not found.finished:
            self._progress.note(f"going on after step {found.step} of {self._config.n_steps}")

    def go(self, curve: CurveFile, stop: StopRequest) -> None:
        """Step until the end, or until asked to stop."""
        if not self.resumed:
            measures = self._measure()
            if measures:
                self._set(first=measures)
                curve.add(Point(step=0, measures=measures))
            self._save(curve)
        n_steps = self._config.n_steps
        self._progress.start("training", n_steps, "steps")
        self._progress.advance(self.state.step)
        log = _Log(self._progress, self._config, self.state.step)
        while not self.state.finished:
            with self._timed("train_s"):
                point = self._update()
            step = self.state.step + 1
            self._set(step=step)
            measures = self._measure() if self._is_due(step) else {}
            self._set(finished=step == n_steps or self._is_stale())
            curve.add(msgspec.structs.replace(point, measures=measures))
            log.say(point, measures)
            if stop.asked or measures or self.state.finished or step % self._config.save_every == 0:
                self._save(curve)
            if stop.asked and not self.state.finished:
                raise Cancelled(f"interrupted after step {step}; the same command goes on from it")
        self._progress.finish()
        if self.state.best is not None:
            load_tensors(self._folder / self.state.best.file, dict(self._task.tensors()))

    def end(self, curve: CurveFile) -> None:
        """End here, before the recipe's last step."""
        if self.state.finished:
            return
        measures = self._measure()
        if measures:
            curve.add(Point(step=self.state.step, measures=measures))
        self._set(finished=True)
        self._save(curve)

    def outcome(self) -> Outcome:
        """What the run came to."""
        state = self.state
        times = (round(state.train_s, 1), round(state.measure_s, 1), state.sittings)
        return Outcome(state.step, state.first, state.best, *times)

    def _update(self) -> Point:
        """One update of the parameters."""
        step, config = self.state.step, self._config
        rate = learning_rate(config, step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["pace"]
        torch.manual_seed(int(np.random.default_rng([config.seed, step]).integers(2**63)))
        examples = self._task.examples(step)
        size = len(examples) // config.accumulate
        sums: dict[str, float] = {}
        for part in range(config.accumulate):
            with self._autocast:
                found = self._task.losses(examples[part * size : (part + 1) * size], step)
            (found["loss"] / config.accumulate).backward()
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value.item() / config.accumulate
        parameters = list(self._task.parameters().values())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm))
        loss = sums.pop("loss")
        if not np.isfinite([loss, norm]).all():
            raise ModelError(f"step {step + 1}: the loss is {loss}, its gradient's norm {norm}")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._task.after_update(step)
        return Point(step + 1, loss, rate, norm, sums)

    def _is_due(self, step: int) -> bool:
        every = self._config.measure_every
        return step == self._config.n_steps or (every > 0 and step % every == 0)

    def _is_stale(self) -> bool:
        return 0 < self._config.patience <= self.state.stale

    def _measure(self) -> dict[str, float]:
        """Measure; remember the state if it is the best so far."""
        with self._timed("measure_s"):
            measures = self._task.measure()
        if not measures or not self._pick:
            return measures
        best = self.state.best
        if best is None or measures[self._pick] > best.measures[self._pick]:
            step = self.state.step
            self._set(best=Best(step, measures, best_file(step)), stale=0)
            self._best_is_new = True
        else:
            self._set(stale=self.state.stale + 1)
        return measures

    def _save(self, curve: CurveFile) -> None:
        curve.sync()
        best = self._task.tensors() if self._best_is_new else None
        self.state = write_state(self._folder, self.state, self._live(), best)
        self._best_is_new = False

    def _live(self) -> dict[str, torch.Tensor]:
        """The task's tensors and the optimizer's.

        AdamW makes its state at the first update; restoring needs the places to copy to before.
        """
        live = {f"task.{name}": tensor for name, tensor in self._task.tensors().items()}
        for name, parameter in self._task.parameters().items():
            held = self._optimizer.state[parameter]
            if not held:
                held["step"] = torch.tensor(0.0)
                held["exp_avg"] = torch.zeros_like(parameter)
                held["exp_avg_sq"] = torch.zeros_like(parameter)
            live |= {f"optimizer.{name}.{key}": tensor for key, tensor in held.items()}
        return live

    def _set(self, **changes: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._set(**{name: getattr(self.state, name) + time.perf_counter() - started})


class _Log:
    """Moves the bar; every few steps says loss, learning rate, speed and time left."""

    def __init__(self, progress: Progress, config: LoopConfig, step: int) -> None:
        self._progress, self._config = progress, config
        self._first, self._started = step, time.perf_counter()

    def say(self, point: Point, measures: dict[str, float]) -> None:
        """A step is done."""
        self._progress.advance(1)
        if point.step % self._config.log_every and not measures:
            return
        spent = max(time.perf_counter() - self._started, 1e-9)
        pace = (point.step - self._first) / spent
        left_s = (self._config.n_steps - point.step) / pace
        words = [
            f"step {point.step}/{self._config.n_steps}",
            f"loss {point.loss:.4f}",
            f"lr {point.learning_rate:.2e}",
            f"{pace * self._config.batch_size:.1f} examples/s",
            f"{left_s / 60:.1f} min left",
            *(f"{name} {value:.4g}" for name, value in (point.parts | measures).items()),
        ]
        self._progress.note("  ".join(words))


def _optimizer(task: Task, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases and norms are not decayed."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in task.parameters().items():
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        paces = [pace for start, pace in config.pace.items() if name.startswith(start)]
        pace = paces[0] if paces else 1.0
        # What does not move needs no gradient, which is most of a step's work.
        parameter.requires_grad_(requires_grad=pace > 0)
        groups.setdefault((decay, pace), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "pace": pace}
            for (decay, pace), parameters in groups.items()
        ],
        lr=0.0,
    )


def _autocast(config: LoopConfig, device: str) -> AbstractContextManager[Any]:
    """bfloat16 where it is asked for, or where the device is fast at it."""
    kind = torch.device(device).type
    able = kind == "cuda" and torch.cuda.is_bf16_supported()
    if config.precision == "bfloat16" or (config.precision == "auto" and able):
        casting: AbstractContextManager[Any] = torch.autocast(kind, dtype=torch.bfloat16)
        return casting
    return nullcontext()

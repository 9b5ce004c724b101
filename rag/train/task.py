"""What a recipe hands to the harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Task(Protocol):
    """A model, its data and its loss. All that is random is drawn from torch's generator."""

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What the optimizer changes."""

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All live tensors that training changes, by name: parameters, moving averages, queues.

        They are saved, and restored in place.
        """

    def examples(self, step: int) -> Sequence[Any]:
        """The examples of an update: a pure function of the seed and `step`."""

    def losses(self, examples: Sequence[Any], step: int) -> dict[str, torch.Tensor]:
        """`loss`, a scalar to be minimised, and other scalars to be watched."""

    def after_update(self, step: int) -> None:
        """Called after each update: moving averages go on here."""

    def measure(self) -> dict[str, float]:
        """Scores on data held out from training; empty when there are none."""

"""What a run needs to go on after any kill: tensors in safetensors, the rest in one JSON file.

Tensor files carry the step in their names and are never changed; the JSON file names those that
count and is replaced by rename. So a kill at any moment leaves the old state or the new one, whole.
Random numbers need no place here: each step draws its own from (seed, step).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from indexes.errors import Conflict, ModelError
from indexes.files import write_durably

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

STATE = "state.json"


class Best(msgspec.Struct, frozen=True):
    """The best measured state so far."""

    step: int
    measures: dict[str, float]
    file: str


class State(msgspec.Struct, frozen=True):
    """Where a run stands. `fingerprint` is of recipe, data and base model.

    `step` counts finished updates and with the seed says which data comes next. `train_s` and
    `measure_s` are summed over all sittings.
    """

    fingerprint: str
    step: int = 0
    file: str = ""
    best: Best | None = None
    first: dict[str, float] = {}
    stale: int = 0
    finished: bool = False
    train_s: float = 0.0
    measure_s: float = 0.0
    sittings: int = 1


def read_state(folder: Path, fingerprint: str) -> State | None:
    """The state of an earlier sitting, None when there is none.

    Raises `Conflict` when it is of another recipe, data or base model.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except msgspec.DecodeError as error:
        raise ModelError(f"the checkpoint {path} is damaged: {error}") from error
    if state.fingerprint != fingerprint:
        raise Conflict(
            f"{folder.parent} holds a run of another recipe, data or base model: "
            "give another folder, or start over with --restart"
        )
    return state


def write_state(folder: Path, state: State, tensors: Tensors, best: Tensors | None) -> State:
    """Save; `best` are the tensors of `state.best` where it is new. What is obsolete is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    state = msgspec.structs.replace(state, file=f"step-{state.step:08d}.safetensors")
    write_tensors(folder / state.file, tensors)
    if best is not None and state.best is not None:
        write_tensors(folder / state.best.file, best)
    write_durably(folder / STATE, msgspec.json.format(msgspec.json.encode(state)))
    kept = {state.file, state.best.file if state.best else ""}
    for file in folder.glob("*.safetensors*"):
        if file.name not in kept:
            file.unlink()
    return state


def best_file(step: int) -> str:
    """The file name of the best state when it was reached at `step`."""
    return f"best-{step:08d}.safetensors"


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write tensors atomically."""
    from safetensors.torch import save

    copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    write_durably(path, save(copies))


def load_tensors(path: Path, tensors: Tensors) -> None:
    """Copy a file's values into live tensors of the same names and shapes. Raises `ModelError`."""
    import torch
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"the checkpoint {path} cannot be read: {error}") from error
    if set(found) != set(tensors):
        raise ModelError(f"the checkpoint {path} is of another model")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(found[name])

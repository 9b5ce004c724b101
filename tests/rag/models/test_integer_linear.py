"""Products of whole numbers: what a second digit is worth, and rows that know nothing of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from rag.models.graph_writer import GRAPH, GraphWriter
from rag.models.integer_linear import IntegerLinear
from rag.models.processor import multiplies_bytes

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="needs a processor with VNNI")

N_IN, N_OUT = 96, 40


@pytest.fixture(scope="module")
def weights():
    # Codes of 8 bits, so that all that is lost is lost by rounding the rows.
    codes = np.random.default_rng(0).integers(-127, 128, (N_OUT, N_IN)).astype(np.float32)
    codes[:, 0] = 127
    return codes / 64


@pytest.fixture(scope="module")
def rows():
    made = np.random.default_rng(1).normal(size=(7, N_IN)).astype(np.float32)
    made[:, 3] *= 40
    made[5] = 0
    return made


@pytest.fixture(scope="module")
def sessions(weights, tmp_path_factory):
    return {n: session(tmp_path_factory.mktemp(f"digits{n}"), weights, n) for n in (1, 2)}


def session(folder: Path, weights: np.ndarray, digits: int) -> onnxruntime.InferenceSession:
    with GraphWriter(folder) as graph:
        graph.input("x", np.float32, ["n", N_IN])
        graph.output("y", np.float32, ["n", N_OUT])
        bias = graph.weight("bias", np.arange(N_OUT, dtype=np.float32))
        IntegerLinear(graph).write("x", "y", weights, bias, digits=digits)
        graph.save("linear")
    return onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])


def run(model: onnxruntime.InferenceSession, rows: np.ndarray) -> np.ndarray:
    return np.asarray(model.run(None, {"x": rows})[0])


def test_a_second_digit_leaves_a_hundredth_of_the_loss(sessions, weights, rows):
    exact = rows.astype(np.float64) @ weights.astype(np.float64).T + np.arange(N_OUT)
    one, two = (np.abs(run(sessions[n], rows) - exact).max() for n in (1, 2))
    assert one > 0.05
    assert two < one / 100


@pytest.mark.parametrize("digits", [1, 2])
def test_a_row_is_computed_alike_alone_and_among_others(sessions, rows, digits):
    together = run(sessions[digits], rows)
    alone = np.concatenate([run(sessions[digits], row[None]) for row in rows])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("digits", [1, 2])
def test_a_row_of_zeros_gives_the_bias(sessions, rows, digits):
    np.testing.assert_array_equal(run(sessions[digits], rows)[5], np.arange(N_OUT))

"""Linear layers whose products are of whole numbers: 8-bit weights, 8-bit activations.

Each row of activations is rounded to 255 steps of its own largest magnitude, and each output
channel of weights to 255 of its own (W8A8 with dynamic per-token scales, as in ZeroQuant,
2206.01861). Sums of whole numbers do not round, so an output depends on its own row alone, however
many rows are fed at once, and processors with dot products of bytes (VNNI) read the weights about
as fast for eight rows as for one: what prompts, drafts and batches need.

Where that rounding costs most, activations have two digits: what the first leaves is rounded again,
to steps 254 times as small, and goes through the same weights as a row more.
"""

from __future__ import annotations

import numpy as np

from rag.models.channel_quantize import LARGEST_CODE, Floats, quantize_channels
from rag.models.graph_writer import MICROSOFT, GraphWriter

MIDDLE = 128
"""The unsigned code that stands for zero: there are kernels for unsigned times signed only."""

SECOND_STEPS = 254
"""Steps of the second digit in one of the first: what is left is at most half a step, 127 of
these."""


class IntegerLinear:
    """Writes such layers into one graph; rows that several layers read are rounded once."""

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph
        self._rounded: dict[str, tuple[str, str]] = {}
        self._middles = ""

    def change_rows(self) -> None:
        """From here on there are other rows, more or fewer: called once they were taken."""
        self._middles = ""

    def write(self, x: str, name: str, weights: Floats, bias: str = "", *, digits: int = 1) -> str:
        """Node `name`: `x [n, n_in]` times `weights [n_out, n_in]` transposed, plus the bias.

        `digits` 1 or 2 of the activations are kept; a row that several layers read has as many in
        all of them.
        """
        graph = self._graph
        levels, steps = self._round(x, digits)
        quantized = quantize_channels(weights)
        product = graph.node(
            "MatMulIntegerToFloat",
            [
                levels,
                graph.weight(f"{name}.codes", quantized.codes),
                graph.weight("one", np.ones((), np.float32)),
                graph.weight(f"{name}.scales", quantized.scales),
                graph.weight("middle", np.full((), MIDDLE, np.uint8)),
            ],
            f"{name}.by_codes",
            domain=MICROSOFT,
        )
        if digits == 2:
            product = self._sum_digits(product, name)
        if not bias:
            return graph.node("Mul", [product, steps], name)
        graph.node("Mul", [product, steps], f"{name}.product")
        return graph.node("Add", [f"{name}.product", bias], name)

    def _sum_digits(self, product: str, name: str) -> str:
        """`[2n, n_out]`, first digits' rows and then second digits', to `[n, n_out]`."""
        graph, second = self._graph, f"{name}.second"
        graph.node("Split", [product], f"{name}.first", more=[second], axis=0, num_outputs=2)
        share = graph.weight("a_second", np.full((), 1 / SECOND_STEPS, np.float32))
        small = graph.node("Mul", [second, share], f"{name}.small")
        return graph.node("Add", [f"{name}.first", small], f"{name}.both")

    def _round(self, x: str, digits: int) -> tuple[str, str]:
        """Codes `[digits * n, n_in]` of the rows, and the steps `[n, 1]` that the first count."""
        if x in self._rounded:
            return self._rounded[x]
        graph = self._graph
        magnitudes = graph.node("Abs", [x], f"{x}.magnitudes")
        last = graph.weight("last_axis", np.array([-1], np.int64))
        largest = graph.node("ReduceMax", [magnitudes, last], f"{x}.largest", keepdims=0)
        share = graph.weight("a_step", np.full((), 1 / LARGEST_CODE, np.float32))
        steps = graph.node("Mul", [largest, share], f"{x}.steps")
        if not self._middles:
            n_rows = graph.node("Shape", [steps], f"{x}.n_rows")
            self._middles = graph.node(
                "ConstantOfShape", [n_rows], f"{x}.middles", value=np.array([MIDDLE], np.uint8)
            )
        levels = graph.node("QuantizeLinear", [x, steps, self._middles], f"{x}.levels", axis=0)
        if digits == 2:
            levels = self._with_second(x, levels, steps)
        column = graph.node("Unsqueeze", [steps, last], f"{x}.steps_column")
        self._rounded[x] = levels, column
        return self._rounded[x]

    def _with_second(self, x: str, levels: str, steps: str) -> str:
        """The codes, and below them those of what they leave of the rows."""
        graph = self._graph
        met = graph.node("DequantizeLinear", [levels, steps, self._middles], f"{x}.met", axis=0)
        rest = graph.node("Sub", [x, met], f"{x}.rest")
        share = graph.weight("a_second", np.full((), 1 / SECOND_STEPS, np.float32))
        small = graph.node("Mul", [steps, share], f"{x}.small_steps")
        second = graph.node(
            "QuantizeLinear", [rest, small, self._middles], f"{x}.rest_levels", axis=0
        )
        return graph.node("Concat", [levels, second], f"{x}.two_levels", axis=0)

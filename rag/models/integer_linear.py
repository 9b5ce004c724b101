"""Linear layers whose products are of whole numbers: 8-bit weights, 8-bit activations.

Each row of activations is rounded to 255 steps of its own largest magnitude, and each output
channel of weights to 255 of its own (W8A8 with dynamic per-token scales, as in ZeroQuant,
2206.01861). Sums of whole numbers do not round, so an output depends on its own row alone, however
many rows are fed at once, and processors with dot products of bytes (VNNI) read the weights about
as fast for eight rows as for one: what prompts, drafts and batches need.
"""

from __future__ import annotations

import numpy as np

from rag.models.channel_quantize import LARGEST_CODE, Floats, quantize_channels
from rag.models.graph_writer import MICROSOFT, GraphWriter

MIDDLE = 128
"""The unsigned code that stands for zero: there are kernels for unsigned times signed only."""


class IntegerLinear:
    """Writes such layers into one graph; rows that several layers read are rounded once."""

    def __init__(self, graph: GraphWriter) -> None:
        self._graph = graph
        self._rounded: dict[str, tuple[str, str]] = {}
        self._middles = ""

    def change_rows(self) -> None:
        """From here on there are other rows, more or fewer: called once they were taken."""
        self._middles = ""

    def write(self, x: str, name: str, weights: Floats, bias: str = "") -> str:
        """Node `name`: `x [n, n_in]` times `weights [n_out, n_in]` transposed, plus the bias."""
        graph = self._graph
        levels, steps = self._round(x)
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
        if not bias:
            return graph.node("Mul", [product, steps], name)
        graph.node("Mul", [product, steps], f"{name}.product")
        return graph.node("Add", [f"{name}.product", bias], name)

    def _round(self, x: str) -> tuple[str, str]:
        """Codes `[n, n_in]` of the rows, and the steps `[n, 1]` they count."""
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
        column = graph.node("Unsqueeze", [steps, last], f"{x}.steps_column")
        self._rounded[x] = levels, column
        return self._rounded[x]

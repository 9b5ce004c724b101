"""The curves of a run as one SVG file: each term over the steps, the measures as dots."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rag.train.curve import Point

WIDTH_IN, ROW_IN = 7.0, 2.0
SMOOTH = 0.03
"""Share of the steps that the drawn line is averaged over."""


def plot_curves(points: Sequence[Point]) -> str:
    """SVG with a panel for the loss, the learning rate, each watched term and each measure.

    The bytes depend on the points alone. Raises `ImportError` without matplotlib.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = _panels(points)
    n_rows = (len(panels) + 1) // 2
    figure = Figure(figsize=(WIDTH_IN, ROW_IN * n_rows), layout="constrained")
    for number, (name, line, dots) in enumerate(panels):
        axes = figure.add_subplot(n_rows, 2, number + 1)
        _draw(axes, line, dots)
        axes.set_title(name, fontsize=9)
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "evident", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


Series = list[tuple[int, float]]


def _panels(points: Sequence[Point]) -> list[tuple[str, Series, Series]]:
    """(title, line, dots) of each quantity, in the order of first mention."""
    lines: dict[str, Series] = {}
    dots: dict[str, Series] = {}
    for point in points:
        if point.loss is not None:
            steady = {"loss": point.loss, "learning rate": point.learning_rate}
            watched = steady | {"gradient norm": point.gradient_norm} | point.parts
            for name, value in watched.items():
                lines.setdefault(name, []).append((point.step, value))
        for name, value in point.measures.items():
            dots.setdefault(name, []).append((point.step, value))
    panels = [(name, line, Series()) for name, line in lines.items()]
    return panels + [(name, Series(), found) for name, found in dots.items()]


def _draw(axes: Any, line: Series, dots: Series) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    if line:
        steps, values = zip(*line, strict=True)
        axes.plot(steps, values, color="#c8d3e3", linewidth=0.6)
        axes.plot(steps, _smoothed(values), color="#3a5a8c", linewidth=1.2)
    if dots:
        steps, values = zip(*dots, strict=True)
        axes.plot(steps, values, color="#3a5a8c", marker="o", markersize=3, linewidth=0.8)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Mean over a window that ends at each value."""
    width = max(1, round(SMOOTH * len(values)))
    return [
        sum(values[max(0, end - width) : end]) / (end - max(0, end - width))
        for end in range(1, len(values) + 1)
    ]

"""The report's figures, as SVG with real text. The bytes depend on the numbers alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_WIDTH_IN, _HEIGHT_IN = 6.0, 3.6
_BETTER, _WORSE, _NEUTRAL = "#1a7f4b", "#b3261e", "#3a5a8c"


class Point(msgspec.Struct, frozen=True):
    """One configuration in a scatter plot."""

    label: str
    x: float
    y: float


def scatter(points: Sequence[Point], x_label: str, y_label: str, *, log_x: bool) -> str:
    """Each configuration as a labelled dot."""
    figure, axes = _figure()
    xs = [point.x for point in points]
    axes.scatter(xs, [point.y for point in points], color=_NEUTRAL, zorder=3)
    for point in points:
        # The label of the point furthest right would run over the frame.
        leftwards = min(xs) < point.x == max(xs)
        axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=(-5 if leftwards else 5, 4),
            textcoords="offset points",
            ha="right" if leftwards else "left",
            fontsize=8,
        )
    if log_x and all(point.x > 0 for point in points):
        _log_scale(axes.xaxis)
    axes.margins(x=0.2, y=0.2)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return _svg(figure)


def differences(values: Sequence[float], y_label: str) -> str:
    """One bar a query, from the greatest gain to the greatest loss."""
    figure, axes = _figure()
    ordered = sorted(values, reverse=True)
    colours = [_BETTER if value > 0 else _WORSE for value in ordered]
    axes.bar(range(len(ordered)), ordered, width=1.0, color=colours)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("queries, by difference")
    axes.set_ylabel(y_label)
    return _svg(figure)


def stacked_stages(stages: Mapping[str, Mapping[str, float]], x_label: str) -> str:
    """One bar a configuration, its stages end to end: configuration to stage to milliseconds."""
    figure, axes = _figure()
    names = list(dict.fromkeys(stage for row in stages.values() for stage in row))
    begins = dict.fromkeys(stages, 0.0)
    for name in names:
        widths = [row.get(name, 0.0) for row in stages.values()]
        axes.barh(list(stages), widths, left=list(begins.values()), label=name, height=0.6)
        begins = {
            label: begin + width
            for (label, begin), width in zip(begins.items(), widths, strict=True)
        }
    axes.invert_yaxis()
    axes.set_xlabel(x_label)
    axes.legend(fontsize=8, loc="best")
    return _svg(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _log_scale(axis: Any) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.axes.set_xscale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    stream = io.StringIO()
    # A fixed salt and no date make equal figures equal bytes; text stays text, so it can be found.
    with mpl.rc_context({"svg.hashsalt": "evident", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()

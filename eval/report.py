"""One self-contained page about a set of runs: quality, cost, differences, and what made them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from eval.compare import compare
from eval.measures import DEFAULT_MEASURES
from eval.page import Link, block, figure, heading, note, page, table
from eval.plots import Point, differences, scatter, stacked_stages
from eval.record import RunRecord
from indexes.errors import UsageError
from indexes.files import write_durably

TOTAL = "total"
_ABSENT = "–"
_MIB = 1024 * 1024
_SHORT_HASH = 12


def write_report(records: Sequence[RunRecord], out: Path, *, seed: int = 0) -> Path:
    """Write `out/index.html` and return its path. Raises `UsageError` as `render` does."""
    text = render(records, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / "index.html", text.encode())
    return out / "index.html"


def render(records: Sequence[RunRecord], *, seed: int = 0) -> str:
    """The page. Runs on different data are never put in one table; names must differ in each.

    Raises `UsageError` for no run at all and for two runs of one name on the same data.
    """
    if not records:
        raise UsageError("a report needs at least one run")
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        key = (record.task, record.dataset.name, record.dataset.split)
        if any(record.name == other.name for other in groups.get(key, ())):
            raise UsageError(f"two runs on {record.dataset.name} are called {record.name!r}")
        groups.setdefault(key, []).append(record)
    body = []
    for number, ((task, name, split), group) in enumerate(groups.items(), 1):
        body += [heading(2, f"{task}: {name}{f' ({split})' if split else ''}")]
        body += _section(group, f"g{number}", seed)
    return page("Evaluation report", body)


def _section(group: Sequence[RunRecord], prefix: str, seed: int) -> list[str]:
    anchors = {record.name: f"{prefix}-{i}" for i, record in enumerate(group, 1)}
    parts = [_quality_table(group, anchors), *_cost_figures(group), _cost_table(group, anchors)]
    parts.append(_stage_table(group, anchors))
    parts += _stage_figure(group)
    if len(group) > 1:
        parts += _comparison(group, seed)
    parts.append(heading(3, "What made these numbers"))
    for record in group:
        parts += [heading(4, record.name, anchors[record.name]), block(_provenance(record))]
    return [part for part in parts if part]


def _quality_table(group: Sequence[RunRecord], anchors: dict[str, str]) -> str:
    names = _measure_names(group)
    rows = [
        [
            Link(anchors[record.name], record.name),
            *(_number(record.measures.get(name), 4) for name in names),
            str(record.n_queries),
            str(record.n_missing),
        ]
        for record in group
    ]
    return table("Quality", ["configuration", *names, "queries", "missing"], rows)


def _cost_table(group: Sequence[RunRecord], anchors: dict[str, str]) -> str:
    header = ["configuration", "p50 ms", "p95 ms", "p99 ms", "cold start ms", "peak memory MiB"]
    rows = []
    for record in group:
        total = record.latency.get(TOTAL)
        spent = [None] * 3 if total is None else [total.p50_ms, total.p95_ms, total.p99_ms]
        memory = None if record.peak_rss_bytes is None else record.peak_rss_bytes / _MIB
        size = None if record.index is None else record.index.bytes / _MIB
        corpus = _ABSENT if record.index is None else record.index.corpus_sha256[:_SHORT_HASH]
        numbers = [*(_number(value, 2) for value in spent), _number(record.cold_start_ms, 0)]
        cells = [*numbers, _number(memory, 0), _number(size, 1), corpus]
        rows.append([Link(anchors[record.name], record.name), *cells])
    return table("Cost", [*header, "index MiB", "corpus"], rows)


def _stage_table(group: Sequence[RunRecord], anchors: dict[str, str]) -> str:
    rows = [
        [
            Link(anchors[record.name], record.name),
            stage,
            *(_number(value, 2) for value in (one.p50_ms, one.p95_ms, one.p99_ms, one.mean_ms)),
            str(one.n),
        ]
        for record in group
        for stage, one in record.latency.items()
    ]
    header = ["configuration", "stage", "p50 ms", "p95 ms", "p99 ms", "mean ms", "samples"]
    return table("Latency per stage", header, rows) if rows else ""


def _cost_figures(group: Sequence[RunRecord]) -> list[str]:
    measure = _primary(group)
    timed = [
        Point(record.name, record.latency[TOTAL].p50_ms, record.measures[measure])
        for record in group
        if TOTAL in record.latency and measure in record.measures
    ]
    sized = [
        Point(record.name, record.index.bytes / _MIB, record.measures[measure])
        for record in group
        if record.index is not None and measure in record.measures
    ]
    parts = []
    if timed:
        svg = scatter(timed, "latency p50, ms", measure, log_x=True)
        parts.append(figure(svg, f"{measure} against latency"))
    if sized:
        svg = scatter(sized, "index, MiB", measure, log_x=True)
        parts.append(figure(svg, f"{measure} against index size"))
    return parts


def _stage_figure(group: Sequence[RunRecord]) -> list[str]:
    stages = {
        record.name: {s: one.p50_ms for s, one in record.latency.items() if s != TOTAL}
        for record in group
    }
    stages = {name: row for name, row in stages.items() if row}
    if not stages:
        return []
    return [figure(stacked_stages(stages, "p50 per stage, ms"), "Where the time goes")]


def _comparison(group: Sequence[RunRecord], seed: int) -> list[str]:
    runs = {record.name: record.per_query for record in group}
    shared = [m for m in _measure_names(group) if all(m in run for run in runs.values())]
    queries = {frozenset(run[m]) for run in runs.values() for m in shared}
    if not shared or len(queries) != 1:
        return [note("No comparison: these runs were not scored alike over the same queries.")]
    baseline, measure = group[0].name, _primary(group) if _primary(group) in shared else shared[0]
    rows = [
        [
            f"{row.run} by {row.measure}",
            f"{row.difference:+.4f}",
            *(f"{p:.4g}" for p in (row.p_t, row.p_t_holm, row.p_fisher, row.p_fisher_holm)),
            f"{row.wins} / {row.ties} / {row.losses}",
        ]
        for row in compare(runs, shared, seed=seed)
    ]
    header = ["run", "difference", "p (t)", "Holm", "p (Fisher)", "Holm", "wins / ties / losses"]
    parts = [table(f"Against {baseline}, query by query", header, rows)]
    parts.append(
        note(
            "Two-sided paired t-test and Fisher randomisation (100,000 sign flips, seed "
            f"{seed}); Holm-corrected over the runs compared by the same measure."
        )
    )
    for record in group[1:]:
        values = record.per_query[measure]
        gains = [values[query] - group[0].per_query[measure][query] for query in values]
        caption = f"{record.name} minus {baseline}, {measure}"
        parts.append(figure(differences(gains, f"difference in {measure}"), caption))
    return parts


def _provenance(record: RunRecord) -> str:
    facts = msgspec.to_builtins(record)
    for bulky in ("per_query", "measures", "latency"):
        facts.pop(bulky)
    return msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()


def _primary(group: Sequence[RunRecord]) -> str:
    names = _measure_names(group)
    return DEFAULT_MEASURES[0] if DEFAULT_MEASURES[0] in names else next(iter(names), "")


def _measure_names(group: Sequence[RunRecord]) -> list[str]:
    return list(dict.fromkeys(name for record in group for name in record.measures))


def _number(value: float | None, n_digits: int) -> str:
    return _ABSENT if value is None else f"{value:,.{n_digits}f}"

"""Answering in one way or several: what `rag eval qa` and `qfs` do once they know the questions."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.ask import Answered, AnswerPlan
    from eval.record import RunRecord
    from rag.answer import AnswerRequest
    from rag.config import Settings
    from rag.service import Service


def answer_each_way(
    args: argparse.Namespace,
    settings: Settings,
    index: str,
    requests: Callable[[AnswerPlan], dict[str, AnswerRequest]],
    measure: Callable[[Service, AnswerPlan, Answered, str], tuple[Sequence[Any], RunRecord]],
) -> dict[str, RunRecord]:
    """Ask, measure and store; the records by way. `measure` is told the record's name last.

    With `--out` the answers and their records are written; until then they are kept as they come.
    """
    from eval.answer_record import store_answers
    from eval.ask import ask_each_way
    from eval.commands.flags import answer_plans
    from eval.compressing import compressing_service
    from eval.journal import answer_journal
    from eval.record import run_name
    from rag.cli.output import TerminalProgress

    plans = answer_plans(args)
    outs = {way: args.out and way_path(args.out, way, alone=len(plans) == 1) for way in plans}
    records: dict[str, RunRecord] = {}
    with closing(compressing_service(settings, plans, index)) as service, ExitStack() as stack:
        opened = {
            way: stack.enter_context(answer_journal(outs[way], service, index, plan))
            for way, plan in plans.items()
        }
        journals = {way: journal for way, journal in opened.items() if journal is not None}
        asked = {way: requests(plan) for way, plan in plans.items()}
        answered = ask_each_way(service, asked, TerminalProgress(), service.choose, journals)
        for way, plan in plans.items():
            out = outs[way]
            rows, record = measure(service, plan, answered[way], run_name(out) if out else index)
            records[way] = store_answers(out, rows, record) if out else record
    return records


def way_path(out: Path, way: str, *, alone: bool) -> Path:
    """Where a way's answers go: `answers.jsonl` is `answers.auto@0.33.jsonl` among several."""
    if alone:
        return out
    stem, dot, ending = out.name.partition(".jsonl")
    return out.with_name(f"{stem}.{way}{dot}{ending}")


def show_each_way(args: argparse.Namespace, records: dict[str, RunRecord]) -> None:
    """One way in full; several side by side, with what is left of the first one's measures."""
    from eval.commands.answers import show_answers
    from eval.commands.text_table import write_table
    from rag.cli.output import print_json, wants_json

    first = next(iter(records.values()))
    if len(records) == 1:
        show_answers(args, first)
        return
    names = [name for name in ("em", "f1", "rouge1", "rouge2", "rougeL") if name in first.measures]
    if wants_json(args):
        for way, record in records.items():
            shape = ("measures", "n_queries", "n_missing", "counts", "latency", "config")
            print_json({"way": way, **{name: getattr(record, name) for name in shape}})
        return
    rows = []
    for way, record in records.items():
        shares = [_share(record.measures[name], first.measures[name]) for name in names]
        spent = [record.latency.get(stage) for stage in ("compress", "total")]
        rows.append(
            [
                way,
                *(f"{record.measures[name]:.4f}" for name in names),
                *shares,
                str(record.counts["compressed_tokens"] // max(1, record.n_queries)),
                *("" if one is None else f"{one.p50_ms:.0f}" for one in spent),
                *("" if one is None else f"{one.mean_ms:.0f}" for one in spent[1:]),
            ]
        )
    kept = [f"{name} kept" for name in names]
    head = ["way", *names, *kept, "prompt", "compress p50", "total p50", "total mean ms"]
    write_table(head, rows)


def _share(value: float, whole: float) -> str:
    return f"{100 * value / whole:.1f}%" if whole > 0 else ""

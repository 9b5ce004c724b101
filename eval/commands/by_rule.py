"""`--rules` of `rag eval qa` and `rag eval qfs`: several rules over the same questions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.ask import AnswerPlan
    from eval.by_rule import Asked, RuleRow
    from rag.config import Settings
    from rag.service import Service


def add_rules_flag(parser: argparse.ArgumentParser) -> None:
    """`--rules`."""
    parser.add_argument(
        "--rules",
        metavar="LIST",
        help="answer by each of these, and compare with the first: off, cad:0.5, adacad, cfb, "
        "momentum, extract; --out then takes every answer as it comes, and goes on with a file "
        "that is there",
    )


def run_by_rules(
    args: argparse.Namespace,
    settings: Settings,
    index: str,
    ask: Callable[[Service, AnswerPlan], list[Asked]],
    measures: Sequence[str],
) -> int:
    """Answer what `ask` makes of the plan, and show the table."""
    from eval.by_rule import RuleAnswer, answer_by_rules, rule_rows
    from eval.commands.flags import answer_plan
    from eval.compressing import compressing_service
    from eval.lines import append_json_lines, json_records
    from rag.cli.output import TerminalProgress, print_json, wants_json

    out, plan = args.out, answer_plan(args)
    done = [row for _, row in json_records(out, RuleAnswer)] if out and out.exists() else []
    with closing(compressing_service(settings, {"": plan}, index)) as service:
        service.choose("")
        answers = answer_by_rules(
            service,
            ask(service, plan),
            args.rules.split(","),
            TerminalProgress(),
            done=done,
            on_question=(lambda rows: append_json_lines(out, rows)) if out else None,
        )
        model = service.generator().model.name
    rows = rule_rows(answers, measures)
    if wants_json(args):
        print_json({"model": model, "rows": rows})
        return 0
    _write(rows)
    sys.stderr.write(f"{rows[0].n} questions, {model}\n")
    return 0


def _write(rows: Sequence[RuleRow]) -> None:
    from eval.commands.text_table import write_table

    cells = []
    measures = list(rows[0].measures)
    for row in rows:
        line = [row.rule]
        for measure in measures:
            against = row.against.get(measure)
            line.append(f"{row.measures[measure]:.4f}")
            line += (
                ["", ""]
                if against is None
                else [f"{against.difference:+.4f}", f"{against.p_fisher_holm:.3g}"]
            )
        cells.append([*line, f"{row.median_ms:.0f}", f"{row.cost:.2f}x"])
    header = ["rule", *(cell for m in measures for cell in (m, "", "p (Holm)"))]
    write_table([*header, "ms a text", "a token"], cells)

"""`rag eval conflict`: prompts whose context contradicts what the model may remember."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.conflict import ConflictRow
    from rag.config import Settings

HELP = "faithful decoding where context and memory conflict: RGB's counterfactuals, MemoTrap"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval conflict`."""
    parser = subparsers.add_parser("conflict", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="an RGB file (.jsonl) or a MemoTrap file (.csv)"
    )
    parser.add_argument(
        "--rules",
        metavar="LIST",
        help="the first one is what the others are compared with; "
        "default: off,cad:0.15,cad:0.3,cad:0.5,cad:1,adacad,extract",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="a sample of N prompts")
    parser.add_argument("--max-tokens", type=int, default=24, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.jsonl",
        help="takes every text as it comes, and goes on with a file that is there; or .jsonl.gz",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.conflict import ConflictAnswer, ConflictPlan, conflict_rows, measure_conflicts
    from eval.conflict_files import read_conflicts
    from eval.lines import append_json_lines, json_records
    from eval.rules import RULES, check_rules
    from eval.sampling import sample
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.generate.opening import open_generator

    rules = tuple(args.rules.split(",")) if args.rules else RULES
    check_rules(rules)
    data = read_conflicts(args.data)
    conflicts = sample(data.conflicts, args.limit, args.seed)
    progress = TerminalProgress()
    model = open_generator(settings.generator, settings, progress)
    plan = ConflictPlan(rules, max(1, args.max_tokens))
    out = args.out
    done = [row for _, row in json_records(out, ConflictAnswer)] if out and out.exists() else []
    answers = measure_conflicts(
        model,
        conflicts,
        plan,
        progress,
        done=done,
        on_prompt=(lambda rows: append_json_lines(out, rows)) if out else None,
    )
    rows = conflict_rows(answers)
    if wants_json(args):
        print_json({"data": data.name, "model": model.name, "rows": rows})
        return 0
    _write(rows)
    sys.stderr.write(f"{len(conflicts)} prompts of {data.name}, {model.name}\n")
    return 0


def _write(rows: list[ConflictRow]) -> None:
    from eval.commands.text_table import write_table

    header = ["rule", "contextual", "memorised", "p", "p (Holm)", "ms a text", "ms a token"]
    cells = [
        [
            row.rule,
            f"{row.contextual:.3f}",
            f"{row.memorised:.3f}",
            "" if row.p is None else f"{row.p:.3g}",
            "" if row.p_holm is None else f"{row.p_holm:.3g}",
            f"{row.median_ms:.0f}",
            f"{row.cost:.2f}x",
        ]
        for row in rows
    ]
    write_table(header, cells)

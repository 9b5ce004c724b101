"""`rag eval code`: identifiers after a point, with Python's monitors and without."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.cli.complete import MONITORS

if TYPE_CHECKING:
    from eval.code_completion import CodeReport
    from rag.config import Settings

HELP = "code completion at dereferences of installed typed packages, with monitors and without"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval code`."""
    parser = subparsers.add_parser("code", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "--packages", metavar="LIST", help="installed typed packages; default: twelve of our own"
    )
    parser.add_argument(
        "--limit", type=int, default=300, metavar="N", help="sites; default: %(default)s"
    )
    parser.add_argument(
        "--monitor", default=MONITORS, metavar="LIST", help="some of (default) %(default)s"
    )
    parser.add_argument("--max-tokens", type=int, default=24, metavar="N", help="a site")
    parser.add_argument(
        "--prompt-tokens", type=int, default=512, metavar="N", help="read before a site, at most"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sites drawn")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="every site; or .jsonl.gz")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.code_completion import CodePlan, code_report, complete_sites
    from eval.code_sites import PACKAGES, cut_sites
    from eval.lines import write_json_lines
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.generate.monitors.python.analyst import Analyst
    from rag.generate.opening import open_generator

    packages = args.packages.split(",") if args.packages else PACKAGES
    monitors = tuple(name for name in args.monitor.split(",") if name)
    progress = TerminalProgress()
    with Analyst() as analyst:
        cut = cut_sites(packages, max(1, args.limit), args.seed, analyst, progress)
        model = open_generator(settings.generator, settings, progress)
        plan = CodePlan(monitors, args.max_tokens, args.prompt_tokens)
        answers = complete_sites(model, cut.sites, plan, analyst, progress)
    if args.out:
        write_json_lines(args.out, answers)
    report = code_report(cut.sites, answers)
    if wants_json(args):
        print_json({"model": model.name, "n_tried": cut.n_tried, "report": report})
        return 0
    _write(report)
    sys.stderr.write(
        f"{model.name}, {report.n} of {cut.n_tried} sites tried, whose members are known, from "
        f"{report.n_packages} packages; the name that stood there is known at "
        f"{report.reachable:.1%}\n"
    )
    return 0


def _write(report: CodeReport) -> None:
    from eval.commands.text_table import write_table

    rows = [
        ["valid identifier", f"{report.valid:.1%}", f"{report.valid_monitored:.1%}", ""],
        [
            "next identifier",
            f"{report.match:.1%}",
            f"{report.match_monitored:.1%}",
            f"p {report.p:.3g}",
        ],
        ["ms a token", f"{report.token_ms:.1f}", "", ""],
        ["monitors, ms a token they bind", "", f"{report.constrained_token_ms:.1f}", ""],
        ["longer a token, by the clock", "", f"{report.overhead:.1%}", ""],
        ["after the first token", "", f"{report.decode_overhead:.1%}", ""],
        ["more of the processor a token", "", f"{report.processor_overhead:.1%}", ""],
        ["first question of a program, ms", "", f"{report.cold_ms:.0f}", ""],
    ]
    write_table(["", "free", "monitored", ""], rows)

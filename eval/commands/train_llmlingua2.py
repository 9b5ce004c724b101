"""`rag train llmlingua2`: the token classifier of prompt compression."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.config import Settings

WHAT = "a token classifier for prompt compression (LLMLingua-2)"
DEFAULT_RECIPE = "llmlingua2-minilm"


def add_parser(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag train llmlingua2`."""
    parser = kinds.add_parser(
        "llmlingua2",
        help=WHAT,
        description=f"Train {WHAT}. Interrupted or killed, the same command goes on.",
        parents=[common],
    )
    parser.add_argument(
        "--recipe", default=DEFAULT_RECIPE, metavar="NAME|FILE", help="default: %(default)s"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="what the recipe's files are in"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--restart", action="store_true", help="forget what DIR has of a run")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.machine import describe_machine
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.train.llmlingua2.recipe import LlmLingua2Recipe
    from rag.train.llmlingua2.run import train_llmlingua2
    from rag.train.recipe import read_recipe
    from rag.train.training_run import TrainRequest

    machine = describe_machine()
    request = TrainRequest(
        recipe_name=Path(args.recipe).stem,
        recipe=read_recipe(args.recipe, LlmLingua2Recipe),
        data=args.data,
        out=args.out,
        command=f"rag train llmlingua2 --recipe {Path(args.recipe).name} --data DATA --out OUT",
        machine=f"{machine.cpu}, {settings.n_threads or machine.n_cores} threads, "
        f"device {settings.device}",
        restart=args.restart,
    )
    report = train_llmlingua2(request, settings, TerminalProgress())
    if wants_json(args):
        print_json(report)
        return 0
    for name, after in report.after.items():
        sys.stdout.write(f"{name:20}{report.before[name]:10.4f} → {after:.4f}\n")
    sys.stdout.write(f"{report.n_steps} steps, kept step {report.kept_step}\n{report.model}\n")
    return 0

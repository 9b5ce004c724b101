"""`rag train dupmae`: the dense-lexical duplex retriever."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.config import Settings

WHAT = "a dense-lexical duplex retriever (DupMAE)"
DEFAULT_RECIPE = "dupmae-minilm"


def add_parser(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag train dupmae`."""
    parser = kinds.add_parser(
        "dupmae",
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
    from eval.training import dev_sets, duplex_measure
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.train.dupmae.recipe import DupmaeRecipe
    from rag.train.dupmae.run import train_dupmae
    from rag.train.recipe import read_recipe
    from rag.train.training_run import TrainRequest

    recipe = read_recipe(args.recipe, DupmaeRecipe)
    machine = describe_machine()
    request = TrainRequest(
        recipe_name=Path(args.recipe).stem,
        recipe=recipe,
        data=args.data,
        out=args.out,
        command=f"rag train dupmae --recipe {Path(args.recipe).name} --data DATA --out OUT",
        machine=f"{machine.cpu}, {settings.n_threads or machine.n_cores} threads, "
        f"device {settings.device}",
        restart=args.restart,
    )
    measure = duplex_measure(dev_sets(args.data, recipe.dev), settings)
    report = train_dupmae(request, settings, TerminalProgress(), measure)
    if wants_json(args):
        print_json(report)
        return 0
    for phase in report.phases:
        sys.stdout.write(f"{phase.name}: {phase.n_steps} steps, kept step {phase.kept_step}\n")
        for name, after in phase.after.items():
            sys.stdout.write(f"  {name:32}{phase.before[name]:10.4f} → {after:.4f}\n")
    sys.stdout.write(f"{report.model}\n")
    return 0

"""`rag train gear`: the retriever that points at the sentence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.training_arguments import add_restart, add_training_parser, machine_line

if TYPE_CHECKING:
    from rag.config import Settings

WHAT = "a bi-encoder that also points at the sentence (GeAR)"
DEFAULT_RECIPE = "gear-minilm"


def add_parser(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag train gear`."""
    parser = add_training_parser(kinds, common, "gear", WHAT, DEFAULT_RECIPE)
    parser.add_argument(
        "--start", default="", metavar="NAME|FOLDER", help="go on from this GeAR model's weights"
    )
    last = parser.add_mutually_exclusive_group()
    add_restart(last)
    last.add_argument(
        "--finish", action="store_true", help="end an interrupted run where it stands"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.gear_training import gear_measure
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.train.gear.recipe import GearRecipe
    from rag.train.gear.run import GearRequest, train_gear
    from rag.train.recipe import read_recipe

    request = GearRequest(
        recipe_name=Path(args.recipe).stem,
        recipe=read_recipe(args.recipe, GearRecipe),
        data=args.data,
        out=args.out,
        command=_command(args),
        machine=machine_line(settings),
        start=args.start,
        restart=args.restart,
        finish=args.finish,
    )
    report = train_gear(request, settings, TerminalProgress(), gear_measure(settings))
    if wants_json(args):
        print_json(report)
        return 0
    for name, after in report.after.items():
        sys.stdout.write(f"{name:32}{report.before[name]:10.4f} → {after:.4f}\n")
    sys.stdout.write(f"{report.n_steps} steps, kept step {report.kept_step}\n{report.model}\n")
    return 0


def _command(args: argparse.Namespace) -> str:
    """The command as a person would repeat it, without where things lie here."""
    start = f" --start {Path(args.start).name}" if args.start else ""
    return f"rag train gear --recipe {Path(args.recipe).name}{start} --data DATA --out OUT"

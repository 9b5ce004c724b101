"""`rag train dupmae`: the dense-lexical duplex retriever."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.training_arguments import add_restart, add_training_parser, machine_line

if TYPE_CHECKING:
    from rag.config import Settings

WHAT = "a dense-lexical duplex retriever (DupMAE)"
DEFAULT_RECIPE = "dupmae-minilm"


def add_parser(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag train dupmae`."""
    parser = add_training_parser(kinds, common, "dupmae", WHAT, DEFAULT_RECIPE)
    add_restart(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.training import dev_sets, duplex_measure
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.train.dupmae.recipe import DupmaeRecipe
    from rag.train.dupmae.run import train_dupmae
    from rag.train.recipe import read_recipe
    from rag.train.training_run import TrainRequest

    recipe = read_recipe(args.recipe, DupmaeRecipe)
    request = TrainRequest(
        recipe_name=Path(args.recipe).stem,
        recipe=recipe,
        data=args.data,
        out=args.out,
        command=f"rag train dupmae --recipe {Path(args.recipe).name} --data DATA --out OUT",
        machine=machine_line(settings),
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

"""`rag train llmlingua2`: the token classifier of prompt compression."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.training_arguments import add_restart, add_training_parser, machine_line

if TYPE_CHECKING:
    from rag.config import Settings

WHAT = "a token classifier for prompt compression (LLMLingua-2)"
DEFAULT_RECIPE = "llmlingua2-minilm"


def add_parser(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag train llmlingua2`."""
    parser = add_training_parser(kinds, common, "llmlingua2", WHAT, DEFAULT_RECIPE)
    add_restart(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.train.llmlingua2.recipe import LlmLingua2Recipe
    from rag.train.llmlingua2.run import train_llmlingua2
    from rag.train.recipe import read_recipe
    from rag.train.training_run import TrainRequest

    request = TrainRequest(
        recipe_name=Path(args.recipe).stem,
        recipe=read_recipe(args.recipe, LlmLingua2Recipe),
        data=args.data,
        out=args.out,
        command=f"rag train llmlingua2 --recipe {Path(args.recipe).name} --data DATA --out OUT",
        machine=machine_line(settings),
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

"""What the commands of `rag train` share: their arguments, and what is asked of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.config import Settings


def add_training_parser(
    kinds: Any, common: argparse.ArgumentParser, name: str, what: str, recipe: str | None
) -> argparse.ArgumentParser:
    """Register `rag train NAME` with the arguments that every recipe's kind has.

    `recipe` is the default one; None where that depends on other arguments.
    """
    parser: argparse.ArgumentParser = kinds.add_parser(
        name,
        help=what,
        description=f"Train {what}. Interrupted or killed, the same command goes on.",
        parents=[common],
    )
    told = "default: %(default)s" if recipe else "default: the backbone's"
    parser.add_argument("--recipe", default=recipe, metavar="NAME|FILE", help=told)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="what the recipe's files are in"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser


def add_restart(group: Any) -> None:
    """Add `--restart` to a parser, or to a group of arguments that exclude each other."""
    group.add_argument("--restart", action="store_true", help="forget what DIR has of a run")


def machine_line(settings: Settings) -> str:
    """The machine as a model's card names it."""
    from eval.machine import describe_machine

    machine = describe_machine()
    threads = settings.n_threads or machine.n_cores
    return f"{machine.cpu}, {threads} threads, device {settings.device}"

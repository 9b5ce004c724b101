"""`rag train`: the recipes. It stands here because a run is measured by the evaluation harness."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands import train_distil, train_dupmae, train_gear, train_llmlingua2
from eval.commands.training_arguments import add_restart, add_training_parser, machine_line

if TYPE_CHECKING:
    from rag.config import Settings
    from rag.train.training_run import TrainReport

HELP = "train a model: seeded, resumable from any kill"
LOG = "train.log"
DEFAULT_RECIPES = {"masked": "splade-tiny", "decoder": "splade-echo"}


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag train` and its recipes' kinds."""
    parser = subparsers.add_parser("train", help=HELP, description=HELP, parents=[common])
    kinds = parser.add_subparsers(title="models", metavar="MODEL", required=True)
    what = "a sparse retriever (SPLADE), or of a decoder (Echo-SPLADE)"
    splade = add_training_parser(kinds, common, "splade", what, None)
    splade.add_argument("--backbone", choices=sorted(DEFAULT_RECIPES))
    add_restart(splade)
    splade.add_argument(
        "--background", action="store_true", help=f"go on without the terminal; log to DIR/{LOG}"
    )
    splade.set_defaults(run=_splade)
    train_dupmae.add_parser(kinds, common)
    train_llmlingua2.add_parser(kinds, common)
    train_distil.add_parser(kinds, common)
    train_gear.add_parser(kinds, common)


def _splade(args: argparse.Namespace, settings: Settings) -> int:
    if args.background:
        return _start_in_background(args, settings)
    from eval.training import dev_sets, sparse_measure
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.train.recipe import read_recipe
    from rag.train.splade import check_backbone, train_splade
    from rag.train.splade_recipe import SpladeRecipe
    from rag.train.training_run import TrainRequest

    name = args.recipe or DEFAULT_RECIPES[args.backbone or "masked"]
    recipe = read_recipe(name, SpladeRecipe)
    check_backbone(recipe, args.backbone)
    request = TrainRequest(
        recipe_name=Path(name).stem,
        recipe=recipe,
        data=args.data,
        out=args.out,
        command=_command(args, name),
        machine=machine_line(settings),
        restart=args.restart,
    )
    measure = sparse_measure(dev_sets(args.data, recipe.dev), settings)
    report = train_splade(request, settings, TerminalProgress(), measure)
    if wants_json(args):
        print_json(report)
    else:
        _show(report)
    return 0


def _command(args: argparse.Namespace, recipe: str) -> str:
    """The command as a person would repeat it, without where data and results lie here."""
    words = ["rag", "train", "splade", "--recipe", Path(recipe).name]
    words += ["--backbone", args.backbone] if args.backbone else []
    return shlex.join(words) + " --data DATA --out OUT"


def _start_in_background(args: argparse.Namespace, settings: Settings) -> int:
    """The same command in a session of its own: a closed terminal does not end it."""
    words = [sys.executable, "-m", "rag.cli.main", "train", "splade"]
    words += ["--data", str(args.data), "--out", str(args.out)]
    words += ["--recipe", args.recipe] if args.recipe else []
    words += ["--backbone", args.backbone] if args.backbone else []
    words += ["--restart"] if args.restart else []
    words += ["--cache", str(settings.cache), "--device", settings.device]
    words += ["--threads", str(settings.n_threads)]
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / LOG
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    process = os.posix_spawn(sys.executable, words, os.environ, file_actions=files, setsid=True)
    sys.stdout.write(f"process {process}, log {log}\n")
    return 0


def _show(report: TrainReport) -> None:
    for name, after in report.after.items():
        sys.stdout.write(f"{name:32}{report.before[name]:10.4f} → {after:.4f}\n")
    sys.stdout.write(
        f"{report.n_steps} steps, kept step {report.kept_step}; {report.train_s / 60:.1f} min "
        f"training, {report.measure_s / 60:.1f} min measuring\n{report.model}\n"
    )

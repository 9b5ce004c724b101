"""`rag complete`: Python code written on from a cursor, held to what the program knows."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import NotFound, UsageError
from rag.cli.output import print_json, wants_json

if TYPE_CHECKING:
    from rag.config import Settings
    from rag.generate.completion import Completion

HELP = "write Python code on from a cursor, with members and arguments that exist"
MONITORS = "dereference,import-names,call-arguments,defined-names"
SUFFIXES = (".py", ".pyi")


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag complete`."""
    parser = subparsers.add_parser("complete", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "place", metavar="FILE:LINE:COL", help="the cursor: before this character, from 1 on"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--monitor", default=MONITORS, metavar="LIST", help="some of (default) %(default)s"
    )
    group.add_argument(
        "--no-monitors", action="store_true", help="the model alone; for other languages too"
    )
    parser.add_argument("--line", action="store_true", help="no further than the end of the line")
    parser.add_argument("--max-tokens", type=int, default=64, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from rag.answer import Decode
    from rag.cli.search import checked
    from rag.generate.completion import complete, program_at
    from rag.generate.monitors.python.analyst import Analyst
    from rag.generate.opening import open_generator

    path, line, column = _place(args.place)
    monitors = [] if args.no_monitors else [name for name in args.monitor.split(",") if name]
    if monitors and path.suffix not in SUFFIXES:
        raise UsageError(f"the monitors read Python, and {path} is none: --no-monitors")
    program = program_at(_source(path), line, column, path)
    decode = Decode(
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        seed=args.seed,
        stop=[*args.stop, *(["\n"] if args.line else [])],
    )
    decode = checked(decode)
    on_text = None if wants_json(args) else _stream
    # It gets ready while the model is opened.
    with Analyst() if monitors else nullcontext() as analyst:
        model = open_generator(settings.generator, settings)
        completion = complete(
            model, program, decode, monitors=monitors, analyst=analyst, on_text=on_text
        )
    if wants_json(args):
        print_json(completion)
    else:
        sys.stdout.write("\n")
        sys.stderr.write(f"{_summary(completion)}\n")
    return 0


def _place(spelled: str) -> tuple[Path, int, int]:
    """Read `FILE:LINE:COL`. Raises `UsageError`."""
    name, *numbers = spelled.rsplit(":", 2)
    if not name or len(numbers) < 2 or not all(one.isascii() and one.isdigit() for one in numbers):
        raise UsageError(f"{spelled!r} is no FILE:LINE:COL")
    return Path(name), int(numbers[0]), int(numbers[1])


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _stream(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _summary(completion: Completion) -> str:
    usage, decode = completion.usage, completion.decode
    parts = [f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"]
    if decode.monitors:
        parts.append(f"{decode.masked} masked, {decode.suggestions} sets of suggestions")
    if completion.truncated:
        parts.append("the beginning of the file was not read")
    return ", ".join(parts)

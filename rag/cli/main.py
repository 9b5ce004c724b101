"""`rag`: finds the subcommand, reads the configuration, turns errors into exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from indexes.errors import EvidentError
from rag.cli.output import compilation_told

GROUP = "evident.commands"
"""Entry points of our own distribution: command → module with `HELP` and `add_parser`."""

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 ok, 1 failure, 2 usage, 3 rejects, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    args = parser.parse_args(arguments)
    if not hasattr(args, "run"):
        parser.print_help()
        return 2
    try:
        with compilation_told():
            return int(args.run(args, _settings(args)))
    except EvidentError as error:
        print(f"rag: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("rag: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`rag ... | head`): nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; modules of commands that are not asked for are not imported."""
    common = common_flags()
    parser = argparse.ArgumentParser(
        prog="rag", description="Evident: cited answers from your documents.", parents=[common]
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    entries = {e.name: e for e in distribution("evident-rag").entry_points if e.group == GROUP}
    asked = [argument for argument in arguments if argument in entries][:1]
    for name in asked or sorted(entries):
        module = importlib.import_module(entries[name].value)
        module.add_parser(subparsers, common)
    return parser


def common_flags() -> argparse.ArgumentParser:
    """Flags that every command takes, before or after its name."""
    flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = flags.add_argument_group("common")
    group.add_argument("--root", type=Path, metavar="DIR", help="where indexes live")
    group.add_argument("--cache", type=Path, metavar="DIR", help="where models live")
    group.add_argument("--config", type=Path, metavar="FILE", help="TOML configuration file")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads; 0: all cores")
    group.add_argument("--device", help="where models run: cpu, cuda, cuda:1, ...")
    group.add_argument("--json", action="store_true", help="print JSON (NDJSON for lists)")
    return flags


def _settings(args: argparse.Namespace) -> Any:
    from rag.config import load_settings

    flags = {
        "root": _text(getattr(args, "root", None)),
        "cache": _text(getattr(args, "cache", None)),
        "device": getattr(args, "device", None),
        "n_threads": getattr(args, "threads", None),
    }
    environ = {key: value for key, value in os.environ.items() if key != "RAG_CONFIG"}
    file = getattr(args, "config", None) or os.environ.get("RAG_CONFIG")
    return load_settings(flags, environ, Path(file) if file else None)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _version() -> str:
    return f"rag {distribution('evident-rag').version}"


if __name__ == "__main__":
    sys.exit(main())

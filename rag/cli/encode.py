"""`rag encode`: lines of stdin → representations, one a line."""

from __future__ import annotations

import argparse
import itertools
import sys
from typing import TYPE_CHECKING, Any

from rag.cli.output import TerminalProgress, print_json, wants_json

if TYPE_CHECKING:
    from rag.config import Settings
    from rag.encode import Code

HELP = "turn lines of text into sparse or dense vectors"
LINES_AT_A_TIME = 256
SHOWN_TERMS = 24


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag encode`."""
    parser = subparsers.add_parser("encode", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "--retriever",
        default="splade",
        metavar="SPEC",
        help="NAME[=MODEL][:KEY=VALUE...]; default: %(default)s",
    )
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--query", action="store_true", help="each line is a query")
    side.add_argument("--passage", action="store_true", help="each line is a passage (default)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from rag.encode import TextEncoder
    from rag.retrievers.retriever import parse_spec

    encoder = TextEncoder(parse_spec(args.retriever), settings, TerminalProgress())
    encode = encoder.queries if args.query else encoder.passages
    lines = (line.rstrip("\r\n") for line in sys.stdin)
    # A first line alone answers a person at once; then more at a time, for speed.
    for size in itertools.chain([1, 16], itertools.repeat(LINES_AT_A_TIME)):
        texts = list(itertools.islice(lines, size))
        if not texts:
            return 0
        for code in encode(texts):
            if wants_json(args):
                print_json(code)
            else:
                print(_line(code))
    return 0


def _line(code: Code) -> str:
    """A representation for a person: the heaviest terms, or the numbers."""
    from rag.encode import BothCodes

    if isinstance(code, list):
        return " ".join(f"{value:.4f}" for value in code)
    sparse = code.sparse if isinstance(code, BothCodes) else code
    pairs = list(zip(sparse.tokens, sparse.values, strict=True))
    shown = "  ".join(f"{token} {value:.2f}" for token, value in pairs[:SHOWN_TERMS])
    rest = len(pairs) - SHOWN_TERMS
    return f"{shown}  and {rest} more" if rest > 0 else shown

"""`rag eval`: the harness on the command line, one file a subcommand."""

from __future__ import annotations

import argparse
from typing import Any

from eval.commands import (
    beir,
    code,
    compare,
    conflict,
    kilt,
    locate,
    longctx,
    matrix,
    qa,
    qfs,
    report,
    rerank,
    rules,
    sentences,
)

HELP = "measure retrieval and answers, and compare runs"

_SUBCOMMANDS = (
    *(beir, rerank, qa, qfs, rules, conflict, code, kilt, locate, longctx, sentences),
    *(compare, report, matrix),
)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval` and its subcommands."""
    parser = subparsers.add_parser("eval", help=HELP, description=HELP, parents=[common])
    inner = parser.add_subparsers(title="evaluations", metavar="EVALUATION", required=True)
    for module in _SUBCOMMANDS:
        module.add_parser(inner, common)

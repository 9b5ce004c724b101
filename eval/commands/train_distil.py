"""`rag train distil`: a language model compresses texts that a token classifier is trained on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from rag.config import Settings

WHAT = "pairs for `rag train llmlingua2`: texts and a language model's compressions of them"


def add_parser(kinds: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag train distil`."""
    parser = kinds.add_parser(
        "distil",
        help=WHAT,
        description=f"Write {WHAT}. Interrupted or killed, the same command goes on.",
        parents=[common],
    )
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="the texts")
    parser.add_argument("--teacher", metavar="NAME", help="default: the settings' generator")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--pieces", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from indexes.readers import read_documents
    from indexes.rejects import Rejects
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.generate.opening import open_generator
    from rag.train.llmlingua2.annotation import annotate
    from rag.train.llmlingua2.distillation import distil, read_pairs

    if args.pieces < 1:
        raise UsageError("--pieces: 1 or more")
    model = open_generator(args.teacher or settings.generator, settings)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    progress = TerminalProgress()
    with Rejects(args.out.with_suffix(".rejects.jsonl")) as rejects:
        texts = (read.document.text for read in read_documents([args.input], rejects))
        n_new = distil(texts, model, args.out, progress, n_pieces=args.pieces, seed=args.seed)
    if rejects.count:
        progress.note(f"{rejects.count} not read; {rejects.path} says why")
    found = [annotate(pair.text, pair.compressed) for pair in read_pairs(args.out)]
    if not found:
        why = f": {rejects.count} not read, see {rejects.path}" if rejects.count else ""
        raise InvalidInput(f"{args.input} holds no text{why}")
    n = len(found)
    facts = {
        "pairs": n,
        "new": n_new,
        "variation": round(sum(one.variation for one in found) / n, 4),
        "gap": round(sum(one.gap for one in found) / n, 4),
    }
    if wants_json(args):
        print_json(facts)
    else:
        sys.stdout.write("\n".join(f"{name:12}{value}" for name, value in facts.items()) + "\n")
    return 0

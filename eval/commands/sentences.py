"""`rag eval sentences`: compressors against people who shortened sentences."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.flags import COMPRESSORS, add_sample_flag

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "prompt compressors against sentences that people shortened"
DEFAULT = "words,sentences,random,idf,llmlingua"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval sentences`."""
    parser = subparsers.add_parser("sentences", help=HELP, description=HELP, parents=[common])
    parser.add_argument("data", type=Path, metavar="DATA", help="JSON lines of text and summaries")
    parser.add_argument(
        "--compress-by",
        default=DEFAULT,
        metavar="HOW[,HOW]",
        help=f"of {', '.join(COMPRESSORS)}; default: {DEFAULT}",
    )
    parser.add_argument("--seed", type=int, default=0, help="of a sample")
    add_sample_flag(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.commands.flags import compressor_names
    from eval.commands.text_table import write_table
    from eval.compressors import open_compressors
    from eval.qa_measures import average
    from eval.sampling import sample
    from eval.sentence_pairs import measure_pairs, read_sentence_pairs
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.compress.token_counter import FolderTokens
    from rag.models.resolver import resolve

    names = compressor_names(args.compress_by)
    pairs = read_sentence_pairs(args.data)
    chosen = sample(pairs, args.limit_questions, args.seed)
    texts = [pair.text for pair in pairs]
    compressors = open_compressors(settings, names, lambda: texts)
    counter = FolderTokens(resolve(settings.generator, settings.cache).folder)
    means = {}
    for name in names:
        rows = measure_pairs(compressors[name], counter, chosen, name, TerminalProgress())
        means[name] = average(row.measures for row in rows).mean
    if wants_json(args):
        print_json({"data": args.data.name, "n": len(chosen), "means": means})
        return 0
    measures = list(next(iter(means.values())))
    cells = [[name, *(f"{found[one]:.4f}" for one in measures)] for name, found in means.items()]
    write_table(["compressor", *measures], cells)
    sys.stderr.write(f"{len(chosen)} sentences of {args.data.name}\n")
    return 0

"""`rag bench`: our stages against their peers. Each benchmark is a module of its own."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.config import Settings

HELP = "measure ratios against peers, in one process"

BENCHMARKS = {
    "compress": ("rag.cli.bench_compress", "prompt compression against llmlingua"),
    "concurrency": ("rag.cli.bench_concurrency", "many requests at once against one"),
    "decode": ("rag.cli.bench_decode", "decoding against transformers, llama.cpp, genai"),
    "encode": ("rag.cli.bench_encode", "SPLADE encoding against sentence-transformers"),
    "identity": ("rag.cli.bench_identity", "texts with drafts against those without"),
    "passes": ("rag.cli.bench_passes", "one pass for all retrievers against each alone"),
    "retrieval": (
        "rag.cli.bench_retrieval",
        "sparse search and BM25 against Seismic, scipy, bm25s and rank-bm25",
    ),
    "serve": ("api.bench_serve", "searches a second under load, and while documents change"),
}
"""Benchmark → its module, with `add_flags(parser)` and `run(args, settings)`, and what it does.
Peers are imported only by the benchmark that is run."""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag bench` and its benchmarks."""
    parser = subparsers.add_parser("bench", help=HELP, description=HELP, parents=[common])
    actions = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for name, (module, what) in BENCHMARKS.items():
        action = actions.add_parser(name, help=what, description=what, parents=[common])
        importlib.import_module(module).add_flags(action)
        action.set_defaults(run=_run, benchmark=module)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    return int(importlib.import_module(args.benchmark).run(args, settings))

"""The index that an evaluation runs over: one that is named, or that of the data's own corpus."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from eval.commands.flags import index_plan

if TYPE_CHECKING:
    from eval.corpus_index import Corpus
    from rag.config import Settings
    from rag.progress import Progress


def chosen_index(
    args: argparse.Namespace,
    dataset: str,
    origin: str,
    corpus: Corpus,
    settings: Settings,
    progress: Progress,
) -> str:
    """The name of the index: built or checked, unless it is only named, then taken as it is.

    Raises what `build_index` raises.
    """
    from eval.corpus_index import default_name, ensure_index

    if args.index and args.retrievers is None and args.passage_words is None:
        return str(args.index)
    plan = index_plan(args)
    name = args.index or default_name(dataset, origin, plan)
    ensure_index(name, corpus, plan, settings, progress)
    return str(name)

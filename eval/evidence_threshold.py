"""Where to draw the line between evidence and none: strengths of answerable and foreign questions.

`python -m eval.evidence_threshold HOME FOREIGN` indexes the corpus of HOME (an MRQA folder with
answers), takes for each of its questions and of FOREIGN's (another domain: nothing in the corpus
answers them) the strength of the best hit, and prints how many of each every threshold would keep.
Training data only: this is where the default of `rag.answering.MIN_EVIDENCE` comes from.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.corpus_index import IndexPlan, default_name, ensure_index
from eval.question_files import read_questions
from rag.cli.output import TerminalProgress
from rag.config import Settings, load_settings
from rag.evidence import evidence_strengths
from rag.ranking import rank
from rag.retrievers.retriever import parse_specs
from rag.search import Fusion, RetrieverChoice
from rag.service import Service
from rag.stopwatch import Stopwatch

THRESHOLDS = [step / 20 for step in range(4, 15)]


def main(argv: Sequence[str]) -> int:
    """Print a table: threshold, share of answerable kept, share of foreign kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("foreign", type=Path)
    parser.add_argument("--retrievers", default="bm25,minilm:max_tokens=40")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)
    settings = load_settings({}, os.environ)
    home, foreign = read_questions(args.home), read_questions(args.foreign)
    plan = IndexPlan(parse_specs(args.retrievers))
    name = default_name(home.name, str(args.home), plan)
    ensure_index(name, home.corpus, plan, settings, TerminalProgress())
    rng = random.Random(args.seed)
    samples = [
        rng.sample([q.text for q in found.questions], min(args.questions, len(found.questions)))
        for found in (home, foreign)
    ]
    kept, refused = (best_strengths(settings, name, sample) for sample in samples)
    sys.stdout.write("threshold  answerable kept  foreign kept\n")
    for threshold in THRESHOLDS:
        shares = [sum(s >= threshold for s in found) / len(found) for found in (kept, refused)]
        sys.stdout.write(f"{threshold:9.2f}  {shares[0]:15.3f}  {shares[1]:12.3f}\n")
    return 0


def best_strengths(settings: Settings, name: str, questions: Sequence[str]) -> list[float]:
    """Strength of the strongest of the three hits that an answer would be shown."""
    service = Service(settings)
    snapshot = service.snapshot(name)
    names = [entry.name for entry in snapshot.manifest.retrievers]
    found = rank(
        snapshot,
        service.retrievers(snapshot, names),
        list(questions),
        [RetrieverChoice(retriever) for retriever in names],
        Fusion(),
        3,
        None,
        Stopwatch(),
    )
    best = []
    for ranked in found:
        rows = [candidate.row for candidate in ranked.candidates]
        best.append(max(evidence_strengths(snapshot, ranked.vectors, rows), default=0.0))
    service.close()
    return best


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

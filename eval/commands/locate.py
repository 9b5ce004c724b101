"""`rag eval locate`: which sentence answers, by GeAR and by retrievers over sentences."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from eval.commands.flags import add_sample_flag
from eval.commands.text_table import write_table
from indexes.errors import UsageError
from rag.models.torch_runtime import Precision

if TYPE_CHECKING:
    from eval.locate import LocateRecord
    from rag.config import Settings

HELP = "point at the sentence that answers: GeAR against retrievers over sentences"
MODEL = "gear"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval locate`."""
    parser = subparsers.add_parser("locate", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "data", type=Path, nargs="+", metavar="FILE", help="a SQuAD .json or QED .jsonlines file"
    )
    parser.add_argument("--model", default=MODEL, metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--aggregation",
        choices=("attention", "reader", "both"),
        help="default: the model's own; both: the other one is compared with it too",
    )
    parser.add_argument(
        "--retrievers",
        default="bm25,splade,minilm",
        metavar="LIST",
        help="what GeAR is compared with, or none; default: %(default)s",
    )
    parser.add_argument(
        "--hits", type=int, metavar="N", help="also measure the time of locating in N paragraphs"
    )
    parser.add_argument(
        "--generate", action="store_true", help="also write answers: exact match and F1"
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="dense retrievers encode in half precision where the CPU computes it",
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="what GeAR computes in; default: what is quickest here",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    add_sample_flag(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="one record (JSON) a file")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.locate import measure_latency
    from eval.located_files import read_located
    from eval.sampling import sample
    from rag.cli.output import TerminalProgress, print_json, wants_json
    from rag.gear.locator import open_locator
    from rag.models.resolver import resolve
    from rag.models.torch_runtime import use_threads

    if args.hits is not None and args.hits < 1:
        raise UsageError("--hits: 1 or more")
    use_threads(settings.n_threads)
    progress = TerminalProgress()
    locator = open_locator(
        resolve(args.model, settings.cache),
        settings.cache,
        device=settings.device,
        batch_tokens=settings.encode_batch_tokens,
        precision=args.precision,
    )
    for path in args.data:
        asked = sample(read_located(path), args.limit_questions, args.seed)
        record = _compared(args, path, asked, locator, settings, progress)
        if args.hits is not None:
            latency = measure_latency(locator, asked, args.hits, N_BATCHES, args.seed)
            sys.stdout.write(
                f"{latency.n_hits} hits of {latency.tokens_per_hit:.0f} tokens: "
                f"{latency.ms_per_batch:.0f} ms, {latency.ms_per_hit:.1f} ms a hit; "
                f"{latency.cpu_ms_per_batch:.0f} ms of processor time\n"
            )
        if args.generate:
            _generated(locator, asked, progress)
        if args.out is not None:
            _store(args.out / f"{path.name.split('.')[0]}.locate.json", record)
        if wants_json(args):
            print_json(record)
        else:
            _show(record)
    return 0


N_BATCHES = 20
"""Batches that the time of locating is the median of."""


def _compared(
    args: argparse.Namespace,
    path: Path,
    asked: Any,
    locator: Any,
    settings: Settings,
    progress: Any,
) -> LocateRecord:
    from contextlib import nullcontext

    from eval.corpus_index import IndexPlan, default_name
    from eval.locate import locate_by_retrieval, locate_with_gear, score_orders
    from rag.models.torch_runtime import fast_casting
    from rag.retrievers.retriever import parse_specs

    own = locator.shape.aggregation
    hows = [own if args.aggregation in (None, "both") else args.aggregation]
    if args.aggregation == "both":
        hows += [how for how in ("attention", "reader") if how != own]
    orders = {f"gear {how}": locate_with_gear(locator, asked, how, progress) for how in hows}
    specs = [] if args.retrievers == "none" else parse_specs(args.retrievers)
    for spec in specs:
        # Sparse pooling writes into buffers of single precision.
        half = args.half and spec.kind in ("dense", "auto")
        plan = IndexPlan([spec])
        origin = f"{path.resolve()} {args.limit_questions} {args.seed} {half}"
        name = default_name("sentences", origin, plan)
        with fast_casting(settings.device) if half else nullcontext():
            orders[spec.name] = locate_by_retrieval(asked, plan, name, settings, progress)
    return score_orders(path.name.split(".")[0], asked, orders)


def _generated(locator: Any, asked: Any, progress: Any) -> None:
    from eval.locate import write_answers

    rows = [
        [how, f"{measures['EM']:.4f}", f"{measures['F1']:.4f}"]
        for how, measures in write_answers(locator, asked, progress).items()
    ]
    write_table(["generated", "EM", "F1"], rows)


def _store(path: Path, record: LocateRecord) -> None:
    import msgspec

    from indexes.files import write_durably

    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, msgspec.json.format(msgspec.json.encode(record)))


def _show(record: LocateRecord) -> None:
    sys.stdout.write(
        f"{record.dataset}: {record.n_questions} questions, {record.n_sentences:.1f} sentences "
        "each; p against the first, Fisher's randomisation, Holm\n"
    )
    tests = {(one.run, one.measure): one for one in record.comparisons}
    rows = []
    for name, found in record.measures.items():
        cells = [name]
        for measure, value in found.items():
            test = tests.get((name, measure))
            cells += [f"{100 * value:.2f}", "" if test is None else f"{test.p_fisher_holm:.1g}"]
        rows.append(cells)
    header = ["method"]
    for measure in next(iter(record.measures.values())):
        header += [measure, "p"]
    write_table(header, rows)

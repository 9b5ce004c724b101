"""`rag eval rules`: faithful rules, extraction and momentum over the same questions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.commands.flags import (
    add_answer_flags,
    add_index_flags,
    add_sample_flag,
    add_search_flags,
    answer_plan,
    index_plan,
)

if TYPE_CHECKING:
    from eval.ask import AnswerPlan
    from eval.by_rule import Asked, RuleRow
    from rag.config import Settings
    from rag.progress import Progress
    from rag.service import Service

HELP = "ways to decode over the same questions or summaries, with p values and cost in time"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag eval rules`."""
    parser = subparsers.add_parser("rules", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="what `rag eval qa` or, with --qfs, `rag eval qfs` takes; --out takes every answer "
        "as it comes, and goes on with a file that is there",
    )
    parser.add_argument("--qfs", action="store_true", help="summaries, not answers")
    parser.add_argument("--split", help="of a folder; default: test, else the only one there is")
    parser.add_argument("--index", metavar="NAME", help="the index to build; default: made up")
    parser.add_argument(
        "--rules",
        metavar="LIST",
        help="the first one is what the others are compared with; of off, cad:0.5, adacad, cfb, "
        "cad:0.5@0.1 (with plausibility), momentum, extract; default: "
        "off,cad:0.15,cad:0.3,cad:0.5,cad:1,adacad,extract",
    )
    add_index_flags(parser)
    add_search_flags(parser)
    add_answer_flags(parser, limit=3)
    add_sample_flag(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from eval.by_rule import RuleAnswer, answer_by_rules, rule_rows
    from eval.compressing import compressing_service
    from eval.lines import append_json_lines, json_records
    from eval.rule_questions import QA_MEASURES, QFS_MEASURES
    from eval.rules import RULES, check_rules
    from rag.cli.output import TerminalProgress, print_json, wants_json

    rules = tuple(args.rules.split(",")) if args.rules else RULES
    check_rules(rules)
    plan, out, progress = answer_plan(args), args.out, TerminalProgress()
    index, prepare = (_qfs if args.qfs else _qa)(args, settings, plan, progress)
    service = compressing_service(settings, {"": plan}, index)
    service.choose("")
    try:
        done = [row for _, row in json_records(out, RuleAnswer)] if out and out.exists() else []
        answers = answer_by_rules(
            service,
            prepare(service),
            rules,
            progress,
            done=done,
            on_question=(lambda rows: append_json_lines(out, rows)) if out else None,
        )
        name = service.generator().model.name
    finally:
        service.close()
    rows = rule_rows(answers, QFS_MEASURES if args.qfs else QA_MEASURES)
    if wants_json(args):
        print_json({"model": name, "rows": rows})
        return 0
    _write(rows)
    sys.stderr.write(f"{rows[0].n} questions, {name}\n")
    return 0


def _qa(
    args: argparse.Namespace, settings: Settings, plan: AnswerPlan, progress: Progress
) -> tuple[str, Any]:
    """The index, and what makes the questions of the service over it."""
    from eval.corpus_index import default_name, ensure_index
    from eval.question_files import read_questions
    from eval.rule_questions import asked_questions
    from eval.sampling import sample

    data = read_questions(args.data, args.split)
    questions = sample(data.questions, args.limit_questions, args.seed)
    build = index_plan(args)
    index = args.index or default_name(data.name, str(args.data.resolve()), build)
    ensure_index(index, data.corpus, build, settings, progress)

    def prepare(service: Service) -> list[Asked]:
        known = frozenset(service.snapshot(index).live_ids())
        return asked_questions(index, questions, known, plan)

    return index, prepare


def _qfs(
    args: argparse.Namespace, settings: Settings, plan: AnswerPlan, progress: Progress
) -> tuple[str, Any]:
    from eval.corpus_index import default_name, ensure_index
    from eval.qfs import passages_corpus
    from eval.qfs_files import read_summaries
    from eval.rule_questions import asked_summaries
    from eval.sampling import sample

    data = read_summaries(args.data)
    summaries = sample(data.summaries, args.limit_questions, args.seed)
    build = index_plan(args)
    index = args.index or default_name(data.name, str(args.data.resolve()), build)
    ensure_index(index, passages_corpus(data), build, settings, progress)
    return index, lambda _: asked_summaries(index, data, summaries, plan)


def _write(rows: Sequence[RuleRow]) -> None:
    from eval.commands.text_table import write_table

    measures = list(rows[0].measures)
    cells = []
    for row in rows:
        line = [row.rule]
        for measure in measures:
            against = row.against.get(measure)
            line.append(f"{row.measures[measure]:.4f}")
            if against is None:
                line += ["", "", ""]
            else:
                low, high = row.bounds[measure]
                line += [f"{against.difference:+.4f}", f"{low:+.4f}..{high:+.4f}"]
                line.append(f"{against.p_fisher_holm:.3g}")
        cells.append([*line, f"{row.median_ms:.0f}", f"{row.cost:.2f}x"])
    header = ["rule", *(cell for m in measures for cell in (m, "", "95 %", "p (Holm)"))]
    write_table([*header, "ms a text", "a token"], cells)

"""`rag answer`: an answer with numbered sources and the evidence marked in them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from rag.cli.decode_flags import add_decode_flags, decode_of
from rag.cli.output import print_json, wants_json
from rag.cli.paint import painted_spans, shade
from rag.cli.search import (
    add_search_flags,
    checked,
    choices,
    fusion,
    parsed_filter,
    query_text,
)

if TYPE_CHECKING:
    from rag.answer import AnswerResponse
    from rag.config import Settings

HELP = "answer a question from an index, with citations"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag answer`."""
    parser = subparsers.add_parser("answer", help=HELP, description=HELP, parents=[common])
    add_search_flags(parser, limit=3)
    add_decode_flags(parser)
    parser.add_argument(
        "--compress", type=float, metavar="RATE", help="0..1: read this share of the evidence"
    )
    parser.add_argument(
        "--min-evidence", type=float, metavar="X", help="0..1; weaker is no evidence"
    )
    parser.add_argument("--stream", action="store_true", help="print the text as it is decoded")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from rag.answer import AnswerRequest
    from rag.compress.compression import Compression
    from rag.service import Service

    request = AnswerRequest(
        index=args.name,
        query=query_text(args),
        limit=args.limit,
        retrievers=choices(args.retrievers),
        fusion=fusion(args.fusion),
        filter=parsed_filter(args.filter),
        compress=None if args.compress is None else Compression(rate=args.compress),
        decode=decode_of(args),
        min_evidence=args.min_evidence,
        timeout_ms=args.timeout_ms,
    )
    service = Service(settings)
    try:
        response = service.answer(checked(request), on_text=_stream if args.stream else None)
    finally:
        service.close()
    if args.stream:
        sys.stderr.write("\n")
    print_json(response) if wants_json(args) else print(render_answer(response))
    return 0


def _stream(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def render_answer(response: AnswerResponse) -> str:
    """The answer with `[n]` after each supported stretch, then the sources it came from."""
    if response.status == "no_evidence":
        return "No evidence in this index: nothing was answered."
    numbers = {hit.id: number for number, hit in enumerate(response.evidence, start=1)}
    lines = [_cited(response, numbers), ""]
    for hit in response.evidence:
        spans = [(c.source_start, c.source_end) for c in response.citations if c.hit_id == hit.id]
        lines.append(f"[{numbers[hit.id]}] {shade(hit.title or hit.id, 'bold')}")
        lines.append(f"    {painted_spans(hit.text, spans)}")
    lines += [f"\nwarning: {warning}" for warning in response.warnings]
    times = ", ".join(f"{name} {spent:.0f}" for name, spent in response.timings_ms.items())
    lines += ["", shade(f"ms: {times}", "dim")]
    return "\n".join(lines)


def _cited(response: AnswerResponse, numbers: dict[str, int]) -> str:
    """Put the source numbers behind the stretches of the answer that they support."""
    ends: dict[int, list[int]] = {}
    for citation in response.citations:
        ends.setdefault(citation.end, []).append(numbers[citation.hit_id])
    pieces, position = [], 0
    for end in sorted(ends):
        marks = "".join(f"[{number}]" for number in sorted(set(ends[end])))
        pieces += [response.answer[position:end], " ", shade(marks, "cite")]
        position = end
    return "".join([*pieces, response.answer[position:]])

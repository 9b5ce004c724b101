"""`rag locate`: the sentences that answer, of an index's hits or of a text from stdin."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from indexes.errors import MalformedInput
from rag.cli.output import print_json, wants_json
from rag.cli.search import checked

if TYPE_CHECKING:
    from rag.config import Settings
    from rag.locating import AttentionMap, LocatedHit
    from rag.search import Hit

HELP = "point at the sentences that answer a question"
SHOWN_WORDS = 5


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag locate`."""
    parser = subparsers.add_parser("locate", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="an index to search; without: a text from stdin"
    )
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("--limit", type=int, default=5, metavar="N", help="hits; default 5")
    parser.add_argument(
        "--sentences", type=int, default=1, metavar="N", help="sentences a hit; default 1"
    )
    parser.add_argument("--write", action="store_true", help="also what each hit says, in words")
    parser.add_argument("--explain", action="store_true", help="also what looks at what")
    parser.add_argument("--model", metavar="NAME", help="a GeAR model or its folder")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from rag.locating import Pointing
    from rag.search import Hit, SearchRequest
    from rag.service import Service

    if args.model is not None:
        settings = msgspec.structs.replace(settings, locator=args.model)
    asked = checked(Pointing(args.sentences, args.write, args.explain))
    service = Service(settings)
    try:
        if args.name is None:
            hits = [Hit("stdin", 1, 0.0, {}, "", _input())]
        else:
            request = SearchRequest(args.name, args.question, limit=args.limit)
            hits = service.search(checked(request)).hits
        found = service.point(args.question, hits, asked)
    finally:
        service.close()
    if wants_json(args):
        print_json(found)
        return 0
    for hit, one in zip(hits, found, strict=True):
        print(_rendered(hit, one, args.question))
    return 0


def _input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"stdin is not UTF-8: {error}") from error


def _rendered(hit: Hit, one: LocatedHit, question: str) -> str:
    """A hit for a person: each sentence with its score and place, then what was written."""
    lines = [f"{hit.rank}. {hit.id}  {hit.title}".rstrip()] if hit.id != "stdin" else []
    for span in one.spans:
        lines.append(f"  {span.score:.2f}  {hit.start + span.start}-{hit.start + span.end}")
        lines.append(f"  {hit.text[span.start : span.end]}")
    if one.answer is not None:
        lines.append(f"  answer: {one.answer}")
    if one.attention is not None:
        lines += _looking(question, hit.text, one.attention)
    return "\n".join(lines)


def _looking(question: str, text: str, found: AttentionMap) -> list[str]:
    """Each word of the question, and the words that it looks at most."""
    lines = []
    for place, row in zip(found.question, found.weights, strict=True):
        best = sorted(range(len(row)), key=lambda n: -row[n])[:SHOWN_WORDS]
        words = [
            f"{text[found.text[n].start : found.text[n].end]} {row[n]:.2f}"
            for n in best
            if row[n] > 0
        ]
        lines.append(f"  {question[place.start : place.end]}: {', '.join(words)}")
    return lines

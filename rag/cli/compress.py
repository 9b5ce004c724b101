"""`rag compress`: a text from stdin, what is left of it to stdout."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from indexes.errors import MalformedInput, UsageError
from rag.cli.output import print_json, wants_json
from rag.cli.search import checked

if TYPE_CHECKING:
    from rag.compress.compression import CompressResponse
    from rag.config import Settings

HELP = "leave the less important words out of a text"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag compress`."""
    parser = subparsers.add_parser("compress", help=HELP, description=HELP, parents=[common])
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--rate", type=float, default=0.5, metavar="X", help="share of the tokens kept; default 0.5"
    )
    size.add_argument("--target-tokens", type=int, metavar="N", help="tokens kept")
    parser.add_argument(
        "--strict", action="store_true", help="what must be kept may not pass the budget either"
    )
    parser.add_argument("--query", default="", metavar="TEXT", help="what the text is read for")
    parser.add_argument("--model", metavar="NAME", help="a token classifier, or none")
    parser.add_argument(
        "--no-sentences", action="store_true", help="do not weigh sentences by the query"
    )
    parser.add_argument(
        "--words",
        action=argparse.BooleanOptionalAction,
        help="run the token classifier; default: where there is no --query",
    )
    parser.add_argument("--word-score", choices=("mean", "first"), default="mean")
    parser.add_argument(
        "--force", action="append", default=[], metavar="TOKEN", help="always kept; repeatable"
    )
    parser.add_argument("--keep-digits", action="store_true", help="keep words with a digit")
    parser.add_argument(
        "--keep-citations", action="store_true", help="keep numbers in square brackets"
    )
    parser.add_argument("--keep-code", action="store_true", help="keep what is in backquotes")
    parser.add_argument(
        "--drop-consecutive", action="store_true", help="no forced token twice in a row"
    )
    parser.add_argument("--explain", action="store_true", help="with --json: score of every word")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from rag.compress.compression import CompressRequest
    from rag.service import Service

    if args.model is not None:
        settings = msgspec.structs.replace(settings, compressor=args.model)
    request = CompressRequest(
        text=_input(),
        query=args.query,
        rate=args.rate,
        target_tokens=args.target_tokens,
        strict=args.strict,
        sentences=not args.no_sentences,
        words=args.words,
        word_score=args.word_score,
        force_tokens=[token.replace("\\n", "\n") for token in args.force],
        keep_digits=args.keep_digits,
        keep_citations=args.keep_citations,
        keep_code=args.keep_code,
        drop_consecutive=args.drop_consecutive,
        explain=args.explain,
    )
    service = Service(settings)
    try:
        response = service.compress(checked(request))
    finally:
        service.close()
    if wants_json(args):
        print_json(response)
        return 0
    sys.stdout.write(response.text)
    if not response.text.endswith("\n"):
        sys.stdout.write("\n")
    sys.stderr.write(f"{_summary(response)}\n")
    return 0


def _input() -> str:
    """All of stdin. Raises `MalformedInput` where it is not UTF-8, `UsageError` on a terminal."""
    if sys.stdin.isatty():
        raise UsageError("the text is read from stdin: rag compress < FILE")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"stdin is not UTF-8: {error}") from error


def _summary(response: CompressResponse) -> str:
    """One line on how it went, and warnings."""
    by = ", ".join(response.by) or "nothing"
    line = f"{response.kept_tokens} of {response.original_tokens} tokens kept, by {by}"
    return "\n".join([line, *(f"warning: {warning}" for warning in response.warnings)])

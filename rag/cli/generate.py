"""`rag generate`: a prompt from the arguments or stdin, its continuation to stdout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import UsageError
from rag.cli.decode_flags import add_decode_flags, decode_of
from rag.cli.output import print_json, wants_json
from rag.cli.search import checked

if TYPE_CHECKING:
    from rag.config import Settings
    from rag.generate.language_model import LanguageModel
    from rag.generating import GenerateResponse

HELP = "decode a prompt, without an index"


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Register `rag generate`."""
    parser = subparsers.add_parser("generate", help=HELP, description=HELP, parents=[common])
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", default="-", help="- (default) reads it from stdin"
    )
    parser.add_argument("--raw", action="store_true", help="no chat template")
    parser.add_argument(
        "--context",
        type=Path,
        metavar="FILE",
        help="a text to put before the prompt; rapid's drafter reads the best of it",
    )
    parser.add_argument(
        "--draft-model", metavar="NAME", help="drafts for rapid; default: the generator itself"
    )
    add_decode_flags(parser)
    parser.add_argument("--timeout-ms", type=int, metavar="MS")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, settings: Settings) -> int:
    from rag.generating import GenerateRequest
    from rag.service import Service

    request = GenerateRequest(
        prompt=sys.stdin.read() if args.prompt == "-" else args.prompt,
        context=_text_of(args.context) if args.context else "",
        raw=args.raw,
        decode=decode_of(args),
        timeout_ms=args.timeout_ms,
    )
    request = checked(request)
    service = Service(settings)
    try:
        response = service.generate(
            request,
            draft_model=_draft_model(args, settings, service.generator().model),
            on_text=None if wants_json(args) else _stream,
        )
    finally:
        service.close()
    if wants_json(args):
        print_json(response)
    else:
        sys.stdout.write("\n")
        sys.stderr.write(f"{_summary(response)}\n")
    return 0


def _draft_model(
    args: argparse.Namespace, settings: Settings, target: LanguageModel
) -> LanguageModel | None:
    """The other model, with its tokenizer checked. Raises `UsageError`, `InvalidInput`."""
    if args.draft_model is None:
        return None
    if args.decode != "rapid":
        raise UsageError("--draft-model needs --decode rapid")
    from rag.generate.opening import open_generator
    from rag.generate.tokenizer_identity import check_same_tokenizer

    other = open_generator(args.draft_model, settings)
    check_same_tokenizer(target, other)
    return other


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _stream(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _summary(response: GenerateResponse) -> str:
    """One line on how it went."""
    usage, decode = response.usage, response.decode
    parts = [f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"]
    if decode.first_token_ms is not None:
        parts.append(f"first after {decode.first_token_ms:.0f} ms")
    if decode.tokens_per_s is not None:
        parts.append(f"then {decode.tokens_per_s:.1f} a second")
    if decode.drafter != "none":
        parts.append(
            f"{decode.drafter}: {decode.accepted} of {decode.drafted} drafted tokens accepted"
        )
    return ", ".join(parts)

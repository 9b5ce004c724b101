"""Flags that say how tokens are chosen, the same for every command that decodes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import UsageError

if TYPE_CHECKING:
    from rag.answer import Decode, Grammar

DRAFTERS = ("none", "lookup", "suffix", "recycle", "rapid", "auto")
VERIFIERS = ("lossless", "rapid_exact", "rapid_paper", "ensemble")
MODES = ("free", "momentum", "extract", "auto")


def add_decode_flags(parser: argparse.ArgumentParser) -> None:
    """Everything of `rag.answer.Decode`."""
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default) is greedy")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT")
    parser.add_argument(
        "--decode",
        choices=DRAFTERS,
        default="auto",
        metavar="DRAFTER",
        help=f"what guesses tokens ahead: {', '.join(DRAFTERS)}; default: auto",
    )
    parser.add_argument(
        "--draft-tokens", type=int, metavar="N", help="0..10; default: chosen while decoding"
    )
    parser.add_argument(
        "--verifier",
        choices=VERIFIERS,
        metavar="RULE",
        help=f"for rapid: {', '.join(VERIFIERS)}; default: rapid_exact",
    )
    parser.add_argument("--eta", type=float, metavar="X", help="for rapid: strength of transfer")
    parser.add_argument(
        "--target-weight", type=float, default=0.5, metavar="W", help="for ensemble: 0..1"
    )
    add_faithful_flags(parser)


def add_faithful_flags(parser: argparse.ArgumentParser) -> None:
    """What holds a text to its evidence; evaluations take these too."""
    parser.add_argument(
        "--faithful",
        default="off",
        metavar="RULE",
        help="off (default), cad[:ALPHA], adacad[:floor=X][:cap=X] or cfb[:BONUS]; cad and adacad "
        "end with :spare to leave the question's own words alone, as summaries want",
    )
    parser.add_argument(
        "--plausibility", type=float, default=0.0, metavar="X", help="0..1, share of the best token"
    )
    parser.add_argument(
        "--monitor",
        default="",
        metavar="LIST",
        help="citation,quote,numbers,names: what of the text must stand in the evidence",
    )
    parser.add_argument(
        "--grammar",
        metavar="KIND:SOURCE",
        help="json:FILE, lark:FILE or regex:PATTERN that the whole text must match",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="free",
        help="momentum: no loops; extract: a stretch of the evidence; auto: extract for questions "
        "that ask for one fact, else free; default: free",
    )
    parser.add_argument("--trace", action="store_true", help="report every token's alpha")


def decode_of(args: argparse.Namespace) -> Decode:
    """The options as given; their bounds are checked with the request."""
    from rag.answer import Decode

    return Decode(
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        seed=args.seed,
        stop=args.stop,
        drafter=args.decode,
        draft_tokens=args.draft_tokens,
        verifier=args.verifier,
        eta=args.eta,
        target_weight=args.target_weight,
        **faithful_options(args),
    )


def faithful_options(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of `Decode` that `add_faithful_flags` spells."""
    return {
        "faithful": args.faithful,
        "plausibility": args.plausibility,
        "monitors": [name for name in args.monitor.split(",") if name],
        "grammar": _grammar(args.grammar) if args.grammar else None,
        "mode": args.mode,
        "trace": args.trace,
    }


def _grammar(spelled: str) -> Grammar:
    """Read `KIND:SOURCE`. Raises `UsageError`."""
    from rag.answer import Grammar

    kind, _, source = spelled.partition(":")
    try:
        match kind:
            case "regex":
                return Grammar(regex=source)
            case "lark":
                return Grammar(lark=Path(source).read_text(encoding="utf-8"))
            case "json":
                return Grammar(json_schema=json.loads(Path(source).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"--grammar: cannot read {source}: {error}") from error
    raise UsageError(f"--grammar: {kind!r} is none of json, lark, regex")

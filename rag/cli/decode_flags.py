"""Flags that say how tokens are chosen, the same for every command that decodes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag.answer import Decode

DRAFTERS = ("none", "lookup", "suffix", "recycle", "rapid", "auto")
VERIFIERS = ("lossless", "rapid_exact", "rapid_paper", "ensemble")


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
    )

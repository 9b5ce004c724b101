"""`rag bench decode`: tokens a second and time to the first token, ours and the peers'."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rag.cli.output import TerminalProgress, print_json, wants_json

if TYPE_CHECKING:
    from rag.bench.decode import DecodeBench
    from rag.config import Settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="BEIR folders, QMSum, SQuALITY, LLMA or Spec-Bench files, or JSON lines of question "
        "and context",
    )
    parser.add_argument(
        "--engines",
        default="evident,evident-auto,transformers",
        metavar="LIST",
        help="also evident-lookup, evident-int4, evident-int8, evident-fp32, transformers-lookup, "
        "transformers-assisted, llama.cpp-q4_0, onnxruntime-genai-int4; default: %(default)s",
    )
    parser.add_argument("--limit", type=int, default=16, metavar="N", help="prompts")
    parser.add_argument("--max-prompt-tokens", type=int, default=1024, metavar="N")
    parser.add_argument("--max-tokens", type=int, default=64, metavar="N")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where peers keep their copies of the model"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print."""
    from rag.bench.decode import DecodeBenchRequest, bench_decode

    request = DecodeBenchRequest(
        data=args.data,
        work=args.work or settings.cache / "bench",
        engines=[name.strip() for name in args.engines.split(",") if name.strip()],
        n_prompts=max(1, args.limit),
        max_prompt_tokens=max(64, args.max_prompt_tokens),
        max_tokens=max(2, args.max_tokens),
    )
    found = bench_decode(request, settings, TerminalProgress())
    if wants_json(args):
        for row in found.rows:
            print_json(row)
        if found.floor is not None:
            print_json(found.floor)
    else:
        _print(found)
    return 0


def _print(found: DecodeBench) -> None:
    print(
        f"{found.model}, at most {found.max_tokens} new tokens, greedy; "
        "ratios by token (with the prompt)"
    )
    for row in found.rows:
        ratios = "  ".join(
            f"{by_token or 0:.2f}x ({whole:.2f}x) {name}"
            for name, by_token, whole in (
                ("generate", row.ratio_vs_generate, row.ratio_vs_generate_answer),
                ("llama.cpp", row.ratio_vs_llamacpp, row.ratio_vs_llamacpp_answer),
                ("genai", row.ratio_vs_genai, row.ratio_vs_genai_answer),
            )
            if whole is not None
        )
        print(
            f"  {row.source:28} {row.engine:24}{row.tokens_per_s:8.1f} tokens/s"
            f"{row.first_token_ms:8.0f} ms to the first{row.answer_tokens_per_s:8.1f} with it  "
            f"{ratios}"
        )
    if found.floor is not None:
        floor = found.floor
        print(
            f"  floor {floor.tokens_per_s:.0f} tokens/s: {floor.weight_bytes / 1e6:.0f} MB of "
            f"weights and {floor.kv_bytes / 1e6:.0f} MB of keys and values at "
            f"{floor.read_bytes_per_s / 1e9:.1f} GB/s; plain decoding is at {floor.share:.0%} of it"
        )

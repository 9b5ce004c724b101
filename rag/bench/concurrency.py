"""Requests at once: tokens a second in all, with as many streams as asked for.

The same requests are decoded by one thread, then by two, and so on, each thread taking the next as
soon as it is done. `tokens_per_s` is of decoding: the prompts were read before and are kept.
`answer_tokens_per_s` is with prompts that are new, so reading them is in it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import msgspec

from rag.answer import Decode, DrafterName
from rag.bench.prompts import BenchPrompt, read_prompts
from rag.config import Settings
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.language_model import LanguageModel
from rag.generate.loop import Generation, generate
from rag.generate.opening import open_generator
from rag.generate.prefix_cache import PrefixCache
from rag.progress import Progress

STREAMS = (1, 2, 4, 8, 16)
PREFIX_BYTES = 10**10


class ConcurrencyRequest(msgspec.Struct, frozen=True):
    """What to measure. There are `n_requests`, as many prompts, from `data`."""

    data: list[Path]
    streams: Sequence[int] = STREAMS
    drafters: Sequence[DrafterName] = ("none", "auto")
    n_requests: int = 32
    max_prompt_tokens: int = 640
    max_tokens: int = 64
    new_prompts: bool = True


class ConcurrencyRow(msgspec.Struct, frozen=True):
    """`n_streams` threads over all requests; `ratio` is to the rate of the fewest streams.

    `first_token_ms` and `last_first_token_ms` are the median and the longest time from a request's
    beginning to its first token, with new prompts.
    """

    backend: str
    drafter: str
    n_streams: int
    n_requests: int
    prompt_tokens: int
    n_tokens: int
    tokens_per_s: float
    ratio: float
    answer_tokens_per_s: float | None = None
    answer_ratio: float | None = None
    first_token_ms: float | None = None
    last_first_token_ms: float | None = None


def bench_concurrency(
    request: ConcurrencyRequest, settings: Settings, progress: Progress
) -> list[ConcurrencyRow]:
    """Measure. Raises `InvalidInput` for data without prompts."""
    settings = with_room(settings, request.streams)
    model = open_generator(settings.generator, settings, progress)
    prompts = read_prompts(
        request.data, request.n_requests, request.max_prompt_tokens, model.tokenizer, settings
    )
    kept = PrefixCache(model, PREFIX_BYTES)
    progress.start("reading prompts", len(prompts), "prompt")
    for prompt in prompts:
        _decode(model, prompt, Decode(1, drafter="none"), DraftMemory(prefixes=kept))
        progress.advance(1)
    progress.start("decoding", len(request.drafters) * len(request.streams), "run")
    rows: list[ConcurrencyRow] = []
    for drafter, n_streams in itertools.product(request.drafters, request.streams):
        decode = Decode(request.max_tokens, drafter=drafter)
        made, seconds = _timed(model, prompts, decode, n_streams, kept)
        n_tokens = sum(one.completion_tokens for one in made)
        base = next((row for row in rows if row.drafter == drafter), None)
        rate = n_tokens / seconds
        row = ConcurrencyRow(
            backend=settings.backend,
            drafter=drafter,
            n_streams=n_streams,
            n_requests=len(prompts),
            prompt_tokens=sum(len(prompt.token_ids) for prompt in prompts),
            n_tokens=n_tokens,
            tokens_per_s=round(rate, 1),
            ratio=round(rate / (base.tokens_per_s if base else rate), 3),
        )
        if request.new_prompts:
            made, seconds = _timed(model, prompts, decode, n_streams, None)
            rate = sum(one.completion_tokens for one in made) / seconds
            known = base.answer_tokens_per_s if base else None
            firsts = [one.first_token_ms or 0.0 for one in made]
            row = msgspec.structs.replace(
                row,
                answer_tokens_per_s=round(rate, 1),
                answer_ratio=round(rate / (known or rate), 3),
                first_token_ms=round(median(firsts), 1),
                last_first_token_ms=round(max(firsts), 1),
            )
        rows.append(row)
        progress.advance(1)
    progress.finish()
    return rows


def with_room(settings: Settings, streams: Sequence[int]) -> Settings:
    """Settings under which all streams may decode together, as under a service set up for them."""
    n_streams = max(settings.max_concurrency, *streams)
    return msgspec.structs.replace(settings, max_concurrency=n_streams)


def _timed(
    model: LanguageModel,
    prompts: Sequence[BenchPrompt],
    decode: Decode,
    n_streams: int,
    kept: PrefixCache | None,
) -> tuple[list[Generation], float]:
    """All texts and the seconds they took; a few tokens before, so that the threads are there."""
    memory = DraftMemory(prefixes=kept)
    with ThreadPoolExecutor(n_streams) as pool:
        first = [prompts[n % len(prompts)] for n in range(n_streams)]
        warm = msgspec.structs.replace(decode, max_tokens=4)
        if kept is not None:
            list(pool.map(lambda prompt: _decode(model, prompt, warm, memory), first))
        started = time.perf_counter()
        made = list(pool.map(lambda prompt: _decode(model, prompt, decode, memory), prompts))
        return made, time.perf_counter() - started


def _decode(
    model: LanguageModel, prompt: BenchPrompt, decode: Decode, memory: DraftMemory
) -> Generation:
    return generate(model, prompt.token_ids, decode, drafting=Drafting(memory))

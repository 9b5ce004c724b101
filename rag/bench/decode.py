"""Decoding: ours against its peers, same weights, same prompts, in one process.

Engines take turns at every prompt, and ratios are medians over the prompts of the rates at one, so
that a noisy machine disturbs all alike. Decoding is greedy to the model's own end or `max_tokens`.
Quantised engines write different texts (each rounds the weights its own way), so rates are tokens
over seconds, summed over the prompts. The first prompt warms up and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import msgspec

from indexes.errors import UsageError
from rag.bench.bandwidth import read_bytes_per_s
from rag.bench.decoders import (
    Decoded,
    Decoder,
    llama_cpp,
    onnxruntime_genai,
    ours,
    transformers_generate,
)
from rag.bench.prompts import BenchPrompt, read_prompts
from rag.config import Settings
from rag.models.resolver import ResolvedModel, resolve
from rag.progress import Progress

PLAIN, BEST = "evident", "evident-auto"
GENERATE, LLAMA, GENAI = "transformers", "llama.cpp-q4_0", "onnxruntime-genai-int4"
ENGINES = (
    *(PLAIN, BEST, "evident-lookup", "evident-int4", "evident-int8", "evident-fp32"),
    *(GENERATE, "transformers-lookup", "transformers-assisted", LLAMA, GENAI),
)
LOOKUP_TOKENS = 10
"""What transformers' documentation gives `prompt_lookup_num_tokens`."""

ALL = "all"


class DecodeBenchRequest(msgspec.Struct, frozen=True):
    """What to measure. `data` are files and folders of prompts; see `rag.bench.prompts`."""

    data: list[Path]
    work: Path
    engines: Sequence[str] = (PLAIN, BEST, GENERATE)
    n_prompts: int = 16
    max_prompt_tokens: int = 1024
    max_tokens: int = 64


class DecodeRow(msgspec.Struct, frozen=True):
    """One engine over the prompts of one source, or of all.

    `tokens_per_s` is after the first token, `answer_tokens_per_s` from the prompt to the end.
    Ratios are medians of what each prompt gave, of the first rate; those ending in `_answer` of the
    second.
    """

    engine: str
    source: str
    n_prompts: int
    prompt_tokens: int
    n_tokens: int
    tokens_per_s: float
    answer_tokens_per_s: float
    first_token_ms: float
    ratio_vs_generate: float | None = None
    ratio_vs_llamacpp: float | None = None
    ratio_vs_genai: float | None = None
    ratio_vs_generate_answer: float | None = None
    ratio_vs_llamacpp_answer: float | None = None
    ratio_vs_genai_answer: float | None = None


class DecodeFloor(msgspec.Struct, frozen=True):
    """What plain decoding cannot beat: each token reads all weights and the keys and values.

    `share` is plain decoding's rate over the floor's.
    """

    weight_bytes: int
    kv_bytes: int
    read_bytes_per_s: float
    tokens_per_s: float
    share: float


class DecodeBench(msgspec.Struct, frozen=True):
    """What came of it."""

    model: str
    max_tokens: int
    rows: list[DecodeRow]
    floor: DecodeFloor | None


def bench_decode(
    request: DecodeBenchRequest, settings: Settings, progress: Progress
) -> DecodeBench:
    """Measure. Raises `UsageError` for an unknown engine or one that is not installed."""
    unknown = set(request.engines) - set(ENGINES)
    if unknown:
        raise UsageError(f"unknown engines {sorted(unknown)}; known: {', '.join(ENGINES)}")
    from rag.generate.chat_tokenizer import load_chat_tokenizer

    model = resolve(settings.generator, settings.cache)
    tokenizer = load_chat_tokenizer(model.folder)
    prompts = read_prompts(
        request.data, request.n_prompts + 1, request.max_prompt_tokens, tokenizer, settings
    )
    decoders = _open(request, model, settings, progress)
    progress.start("decoding", len(prompts) * len(decoders), "answer")
    found: dict[str, list[Decoded]] = {name: [] for name in decoders}
    for prompt in prompts:
        for name, decode in decoders.items():
            found[name].append(decode(prompt.token_ids, request.max_tokens))
            progress.advance(1)
    progress.finish()
    counted = {name: decoded[1:] for name, decoded in found.items()}
    rows = _rows(prompts[1:], counted)
    return DecodeBench(
        model=model.name,
        max_tokens=request.max_tokens,
        rows=rows,
        floor=_floor(model, settings, prompts[1:], rows),
    )


def _open(
    request: DecodeBenchRequest, model: ResolvedModel, settings: Settings, progress: Progress
) -> dict[str, Decoder]:
    """The engines asked for, each loaded once."""
    from rag.generate.opening import open_generator

    request.work.mkdir(parents=True, exist_ok=True)
    n_ctx = request.max_prompt_tokens + request.max_tokens + 16
    n_threads = settings.n_threads
    auto = open_generator(settings.generator, settings)

    def peer_llama() -> Decoder:
        if model.gguf is None:
            raise UsageError(f"{model.name} did not come as GGUF: llama.cpp cannot be measured")
        return llama_cpp(model.gguf, request.work, n_ctx, n_threads)

    def plain(backend: str) -> Decoder:
        local = msgspec.structs.replace(settings, backend=backend)
        return ours(open_generator(settings.generator, local), "none")

    makers: Mapping[str, Callable[[], Decoder]] = {
        PLAIN: lambda: ours(auto, "none"),
        BEST: lambda: ours(auto, "auto"),
        "evident-lookup": lambda: ours(auto, "lookup"),
        "evident-int4": lambda: plain("int4"),
        "evident-int8": lambda: plain("int8"),
        "evident-fp32": lambda: plain("fp32"),
        GENERATE: lambda: transformers_generate(model.folder, n_threads),
        "transformers-lookup": lambda: transformers_generate(
            model.folder, n_threads, prompt_lookup_num_tokens=LOOKUP_TOKENS
        ),
        "transformers-assisted": lambda: transformers_generate(
            model.folder, n_threads, assistant=True
        ),
        LLAMA: peer_llama,
        GENAI: lambda: onnxruntime_genai(model.folder, request.work, n_threads),
    }
    opened = {}
    for name in request.engines:
        progress.note(f"opening {name}")
        opened[name] = makers[name]()
    return opened


def _rows(
    prompts: Sequence[BenchPrompt], found: Mapping[str, Sequence[Decoded]]
) -> list[DecodeRow]:
    sources = list(dict.fromkeys(prompt.source for prompt in prompts))
    rows = []
    for source in [ALL, *(sources if len(sources) > 1 else [])]:
        places = [n for n, prompt in enumerate(prompts) if source in (ALL, prompt.source)]
        asked = [prompts[n] for n in places]
        answers = {name: [done[n] for n in places] for name, done in found.items()}
        rows += [
            _with_ratios(_row(name, source, asked, done), done, answers)
            for name, done in answers.items()
        ]
    return rows


def _row(
    engine: str, source: str, prompts: Sequence[BenchPrompt], done: Sequence[Decoded]
) -> DecodeRow:
    n_tokens = sum(one.n_tokens for one in done)
    after_first = sum(one.total_s - one.first_s for one in done)
    return DecodeRow(
        engine=engine,
        source=source,
        n_prompts=len(prompts),
        prompt_tokens=sum(len(prompt.token_ids) for prompt in prompts),
        n_tokens=n_tokens,
        tokens_per_s=round((n_tokens - len(done)) / max(after_first, 1e-9), 2),
        answer_tokens_per_s=round(n_tokens / sum(one.total_s for one in done), 2),
        first_token_ms=round(median(one.first_s for one in done) * 1000, 1),
    )


def _with_ratios(
    row: DecodeRow, done: Sequence[Decoded], answers: Mapping[str, Sequence[Decoded]]
) -> DecodeRow:
    def against(peer: str, rate: Callable[[Decoded], float]) -> float | None:
        pairs = zip(done, answers.get(peer, ()), strict=False)
        ratios = [rate(one) / rate(other) for one, other in pairs if rate(one) and rate(other)]
        return round(median(ratios), 3) if ratios else None

    return msgspec.structs.replace(
        row,
        ratio_vs_generate=against(GENERATE, _decoding),
        ratio_vs_llamacpp=against(LLAMA, _decoding),
        ratio_vs_genai=against(GENAI, _decoding),
        ratio_vs_generate_answer=against(GENERATE, _answering),
        ratio_vs_llamacpp_answer=against(LLAMA, _answering),
        ratio_vs_genai_answer=against(GENAI, _answering),
    )


def _decoding(done: Decoded) -> float:
    """Tokens a second after the first token; 0 where there was no other."""
    return (done.n_tokens - 1) / max(done.total_s - done.first_s, 1e-9)


def _answering(done: Decoded) -> float:
    """Tokens a second from the prompt to the end."""
    return done.n_tokens / done.total_s


def _floor(
    model: ResolvedModel,
    settings: Settings,
    prompts: Sequence[BenchPrompt],
    rows: Sequence[DecodeRow],
) -> DecodeFloor | None:
    """The floor of our graph's plain decoding; None where it was not measured or is not used."""
    from rag.generate.opening import precision_of
    from rag.models.block_quantize import block_bytes
    from rag.models.optimize import find_optimized

    plain = next((row for row in rows if row.engine == PLAIN and row.source == ALL), None)
    graph = find_optimized(model, settings.cache, precision_of(settings))
    if plain is None or graph is None or settings.backend == "torch":
        return None
    shape = graph.shape
    per_number = 2 if graph.precision == "int8" else 4
    per_token = 2 * per_number * shape.n_layers * shape.n_kv_heads * shape.head_size
    kv_bytes = round(per_token * mean(len(prompt.token_ids) for prompt in prompts))
    weight_bytes = graph.weights.stat().st_size
    if graph.precision == "int8":
        # The head has codes of its own; of the embedding a token reads one row.
        weight_bytes -= shape.vocabulary_size * block_bytes(shape.hidden_size)
    speed = read_bytes_per_s()
    rate = speed / (weight_bytes + kv_bytes)
    return DecodeFloor(
        weight_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        read_bytes_per_s=round(speed),
        tokens_per_s=round(rate, 1),
        share=round(plain.tokens_per_s / rate, 3),
    )

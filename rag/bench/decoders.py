"""Engines that decode greedily from prompt ids: ours and its peers, behind one call.

Each says how many tokens it wrote, with two times, so that all are measured alike. Peers are
imported, and their copies of the model made, only when they are asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import ModelError, UsageError
from rag.answer import Decode, DrafterName
from rag.bench.requantize import requantised
from rag.generate.language_model import LanguageModel

BENCH_GROUP = "this peer is not installed: pip install 'evident-rag[bench]'"


class Decoded(msgspec.Struct, frozen=True):
    """What came out: seconds until the first token, and until the last."""

    n_tokens: int
    first_s: float
    total_s: float
    token_ids: list[int] | None = None


Decoder = Callable[[list[int], int], Decoded]
"""Prompt ids and the most tokens to write → what was written, the EOS with it."""


def ours(model: LanguageModel, drafter: DrafterName, n_draft_tokens: int | None = None) -> Decoder:
    """Our loop. What it learns from one prompt it uses in the next, as the service does."""
    from rag.generate.drafting import Drafting, DraftMemory
    from rag.generate.loop import generate

    memory = DraftMemory()

    def decode(prompt_ids: list[int], max_tokens: int) -> Decoded:
        started = time.perf_counter()
        choice = Decode(max_tokens, drafter=drafter, draft_tokens=n_draft_tokens)
        made = generate(model, prompt_ids, choice, drafting=Drafting(memory))
        total_s = time.perf_counter() - started
        memory.answers.add(made.token_ids)
        first_s = (made.first_token_ms or 0) / 1000
        return Decoded(len(made.token_ids), first_s, total_s, made.token_ids)

    return decode


def transformers_generate(folder: Path, n_threads: int = 0, **options: Any) -> Decoder:
    """`model.generate`, greedy, float32; `options` are its own, such as `prompt_lookup_num_tokens`.

    0 threads: as many as torch has. With `assistant=True` the model assists itself.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from rag.models.torch_runtime import quiet_transformers, use_threads

    use_threads(n_threads)
    with quiet_transformers():
        module = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()
    if options.pop("assistant", False):
        options["assistant_model"] = module

    def decode(prompt_ids: list[int], max_tokens: int) -> Decoded:
        clock = _FirstToken()
        ids = torch.tensor([prompt_ids])
        with torch.inference_mode(), quiet_transformers():
            found = module.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_tokens,
                streamer=clock,
                **options,
            )
        return clock.decoded(found[0, len(prompt_ids) :].tolist())

    return decode


class _FirstToken:
    """A streamer that notes when the first token came; the prompt is streamed before it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._n_puts = 0
        self._first_s = 0.0

    def put(self, _: Any) -> None:
        """Called with the prompt, then with what was written."""
        self._n_puts += 1
        if self._n_puts == 2:
            self._first_s = time.perf_counter() - self._started

    def end(self) -> None:
        """Called when all is written."""

    def decoded(self, token_ids: list[int]) -> Decoded:
        total_s = time.perf_counter() - self._started
        return Decoded(len(token_ids), self._first_s, total_s, token_ids)


def llama_cpp(gguf: Path, work: Path, n_ctx: int, n_threads: int) -> Decoder:
    """llama.cpp over the weights requantised to Q4_0, for which it has its fastest kernels."""
    try:
        import xllamacpp
    except ImportError as error:
        raise UsageError(f"llama.cpp: {BENCH_GROUP}") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(requantised(gguf, work / f"{gguf.stem}-q4_0.gguf"))
    params.n_ctx, params.n_batch, params.n_parallel, params.verbosity = n_ctx, 512, 1, -1
    if n_threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads
    server = xllamacpp.Server(params)

    def decode(prompt_ids: list[int], max_tokens: int) -> Decoded:
        asked = {"prompt": prompt_ids, "n_predict": max_tokens, "temperature": 0}
        timings = server.handle_completions({**asked, "cache_prompt": False})["timings"]
        first_s = timings["prompt_ms"] / 1000
        return Decoded(timings["predicted_n"], first_s, first_s + timings["predicted_ms"] / 1000)

    return decode


def onnxruntime_genai(folder: Path, work: Path, n_threads: int) -> Decoder:
    """onnxruntime-genai over the int4 graph that its own builder makes; 0 threads: its default."""
    try:
        import onnxruntime_genai as genai
    except ImportError as error:
        raise UsageError(f"onnxruntime-genai: {BENCH_GROUP}") from error
    built = work / "onnxruntime-genai-int4"
    if not (built / "genai_config.json").is_file():
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        flags = ["-i", str(folder), "-o", str(built), "-p", "int4", "-e", "cpu", "-c", str(work)]
        done = subprocess.run(command + flags, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ModelError(f"onnxruntime-genai's builder failed: {done.stderr[-400:]}")
    config = genai.Config(str(built))
    options = {"session_options": {"intra_op_num_threads": n_threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    model = genai.Model(config)

    def decode(prompt_ids: list[int], max_tokens: int) -> Decoded:
        started, first_s = time.perf_counter(), 0.0
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=len(prompt_ids) + max_tokens, do_sample=False)
        generator = genai.Generator(model, params)
        generator.append_tokens(prompt_ids)
        token_ids: list[int] = []
        while not generator.is_done():
            generator.generate_next_token()
            first_s = first_s or time.perf_counter() - started
            token_ids.append(int(generator.get_next_tokens()[0]))
        total_s = time.perf_counter() - started
        return Decoded(len(token_ids), first_s, total_s, token_ids)

    return decode

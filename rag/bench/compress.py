"""Prompt compression: ours against llmlingua, same checkpoint, same texts, in one process.

The peer is what a person would write, `PromptCompressor(...).compress_prompt(texts, rate=...)`,
with three things changed: it counts tokens in the generator's vocabulary instead of one it would
download, is told which of its two spellings of words the checkpoint has, and keeps every text, as
ours does, instead of dropping the worst of several. Ours does all that the stage does, but for the
question: scores, budget in the generator's tokens, map to the source. Rounds alternate, figures are
medians.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from indexes.errors import InvalidInput, UsageError
from indexes.readers import read_documents
from indexes.rejects import Rejects
from rag.compress.compression import Compression, Passage
from rag.compress.compressor import Compressor
from rag.compress.token_classifier import TokenClassifier
from rag.compress.token_counter import FolderTokens
from rag.config import Settings
from rag.models.resolver import resolve
from rag.models.safety import read_object
from rag.models.torch_runtime import quiet_transformers, use_threads
from rag.progress import Progress

Peer = Callable[[list[str], float], list[str]]
"""Texts and a rate → what is left of each."""

OURS, PEER = "evident", "llmlingua"

SPELLINGS = {"bert": "bert-base-multilingual-cased", "xlm-roberta": "xlm-roberta-large"}
"""Names that llmlingua looks for in a model's, by the kind of tokenizer."""

GPT2_PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


class CompressBenchRequest(msgspec.Struct, frozen=True):
    """What to measure: documents of a BEIR folder or anything else that is read, and a model."""

    data: Path
    model: str
    limit: int = 64
    join: int = 1
    rate: float = 0.5
    rounds: int = 3


class EngineRow(msgspec.Struct, frozen=True):
    """One engine: tokens of the texts a second by the median round, each round's seconds.

    `kept` is the share of the generator's tokens that it kept, where `rate` was asked for.
    """

    engine: str
    tokens_per_s: float
    seconds: list[float]
    cpu_seconds: float
    kept: float


class CompressBench(msgspec.Struct, frozen=True):
    """What came of it; `ratio` is ours over the peer's tokens a second, `cpu_ratio` by CPU time."""

    model: str
    data: str
    rate: float
    n_texts: int
    n_tokens: int
    longest_tokens: int
    n_threads: int
    rows: list[EngineRow]
    ratio: float
    cpu_ratio: float


def bench_compress(
    request: CompressBenchRequest, settings: Settings, progress: Progress
) -> CompressBench:
    """Measure; one round of each warms up. Raises `InvalidInput` when there are no documents."""
    import torch

    use_threads(settings.n_threads)
    texts = _texts(request)
    generator = resolve(settings.generator, settings.cache)
    counter = FolderTokens(generator.folder)
    classifier = TokenClassifier(
        resolve(request.model, settings.cache),
        cache=settings.cache,
        device=settings.device,
        batch_tokens=settings.encode_batch_tokens,
        precision=settings.encode_precision,
    )
    options = Compression(rate=request.rate)
    passages = [Passage(text) for text in texts]
    compressor = Compressor(classifier)

    def ours() -> list[str]:
        found = compressor.compress(passages, "", options, counter)
        return [kept.text.text for kept in found.texts]

    theirs = open_llmlingua(classifier, generator.folder, settings.device)
    engines: dict[str, Callable[[], list[str]]] = {
        OURS: ours,
        PEER: lambda: theirs(texts, request.rate),
    }
    wall: dict[str, list[float]] = {name: [] for name in engines}
    cpu: dict[str, list[float]] = {name: [] for name in engines}
    left: dict[str, list[str]] = {}
    progress.start("compressing", 2 * (request.rounds + 1), "round")
    for number in range(request.rounds + 1):
        for name, work in engines.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            left[name] = work()
            if number:
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - began_cpu)
            progress.advance(1)
    progress.finish()
    lengths = [classifier.n_tokens([text]) for text in texts]
    whole = sum(len(counter.encode(text)) for text in texts)
    return CompressBench(
        model=request.model,
        data=request.data.name,
        rate=request.rate,
        n_texts=len(texts),
        n_tokens=sum(lengths),
        longest_tokens=max(lengths),
        n_threads=torch.get_num_threads(),
        rows=[
            EngineRow(
                engine=name,
                tokens_per_s=round(sum(lengths) / median(wall[name]), 1),
                seconds=[round(spent, 4) for spent in wall[name]],
                cpu_seconds=round(median(cpu[name]), 4),
                kept=round(sum(len(counter.encode(text)) for text in left[name]) / whole, 4),
            )
            for name in engines
        ],
        ratio=round(median(wall[PEER]) / median(wall[OURS]), 3),
        cpu_ratio=round(median(cpu[PEER]) / median(cpu[OURS]), 3),
    )


def _texts(request: CompressBenchRequest) -> list[str]:
    """The documents' texts, `join` of them to a text."""
    n_read = request.limit * request.join
    with tempfile.TemporaryDirectory() as scratch, Rejects(Path(scratch) / "rejects") as rejects:
        reads = itertools.islice(read_documents([request.data], rejects), n_read)
        texts = [read.document.text for read in reads if read.document.text.strip()]
    if not texts:
        raise InvalidInput(f"{request.data} holds no documents")
    return ["\n".join(texts[at : at + request.join]) for at in range(0, len(texts), request.join)]


def open_llmlingua(classifier: TokenClassifier, generator: Path, device: str) -> Peer:
    """Llmlingua over the same weights, written out whole where ours are corrections of others.

    It counts tokens in the vocabulary of the folder `generator`. Raises `UsageError` for weights
    or a vocabulary that it cannot use.
    """
    with tempfile.TemporaryDirectory() as scratch:
        classifier.save(Path(scratch))
        compressor = _llmlingua(Path(scratch), generator, device)

    def compress(texts: list[str], rate: float) -> list[str]:
        # Its filter of whole contexts is off: it would return fewer texts than it was given.
        found = compressor.compress_prompt(list(texts), rate=rate, use_context_level_filter=False)
        left: list[str] = found["compressed_prompt_list"]
        return left

    return compress


def _llmlingua(folder: Path, generator: Path, device: str) -> Any:
    import tiktoken

    kind = str((read_object(folder / "config.json") or {}).get("model_type"))
    if kind not in SPELLINGS:
        raise UsageError(f"llmlingua reads BERT and XLM-RoBERTa, not {kind}")
    encoding = _encoding(generator)
    downloaded = tiktoken.encoding_for_model
    tiktoken.encoding_for_model = lambda model_name: encoding  # noqa: ARG005
    try:
        with quiet_transformers():
            from llmlingua import PromptCompressor

            compressor = PromptCompressor(
                str(folder),
                device_map=device,
                use_llmlingua2=True,
                model_config={"trust_remote_code": False},
            )
    finally:
        tiktoken.encoding_for_model = downloaded
    compressor.model_name = SPELLINGS[kind]
    return compressor


def _encoding(generator: Path) -> Any:
    """A tiktoken encoding of the generator's byte-level vocabulary. Raises `UsageError`."""
    import tiktoken
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    found = read_object(generator / "tokenizer.json") or {}
    vocabulary: dict[str, int] = found.get("model", {}).get("vocab", {})
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    ranks = {
        bytes(letters[ch] for ch in token): rank
        for token, rank in vocabulary.items()
        if token and all(ch in letters for ch in token)
    }
    single = [bytes([byte]) for byte in range(256)]
    if not all(byte in ranks for byte in single[ord(" ") : ord("~") + 1]):
        raise UsageError("llmlingua counts tokens with tiktoken: the generator must be byte-level")
    # tiktoken wants all bytes; a vocabulary may lack those that its training text did not have.
    missing = [byte for byte in single if byte not in ranks]
    ranks |= {byte: len(vocabulary) + number for number, byte in enumerate(missing)}
    return tiktoken.Encoding(
        "generator", pat_str=GPT2_PIECES, mergeable_ranks=ranks, special_tokens={}
    )

"""Greedy texts with drafts against the same backend's plain ones, token for token.

A check is one prompt decoded by one drafter with drafts of one length; it is written to a file at
once, so that a run that was broken off goes on where it stopped. Each drafter keeps what the
prompts before taught it, as a service does. `crop` is a check of the cache: logits after a wrong
continuation was forgotten, fed in pieces of every size, against those of a fresh context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from indexes.errors import UsageError
from rag.answer import MAX_DRAFT_TOKENS, Decode
from rag.bench.prompts import BenchPrompt, read_prompts
from rag.config import Settings
from rag.generate.drafting import Drafting, DraftMemory
from rag.generate.language_model import LanguageModel
from rag.generate.loop import generate
from rag.generate.opening import open_generator
from rag.generate.prefix_cache import PrefixCache
from rag.models.resolver import resolve
from rag.progress import Progress

if TYPE_CHECKING:
    import torch

Backend = Literal["int8", "int4", "fp32", "torch"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
DRAFTERS = ("lookup", "suffix", "recycle", "auto", "rapid")
CROP = "crop"

TOLERANCE = 1e-3
"""Logits that are further apart are not just rounded differently."""

RAPID_TOKENS = 128
"""The model drafts for itself from so much of the prompt's end, with the lossless verifier."""

PREFIX_BYTES = 10**9


class IdentityRequest(msgspec.Struct, frozen=True):
    """What to check. `checks` is the file of checks made; see `rag.bench.prompts` for `data`."""

    data: list[Path]
    checks: Path
    backends: Sequence[str] = BACKENDS
    drafters: Sequence[str] = DRAFTERS
    gammas: Sequence[int] = tuple(range(MAX_DRAFT_TOKENS + 1))
    n_prompts: int = 100
    max_prompt_tokens: int = 640
    max_tokens: int = 32


class Check(msgspec.Struct, frozen=True):
    """One prompt. `difference` is where the texts part, none where they are the same.

    Of a crop, `gamma` is 0, `max_difference` the greatest between two logits, and `difference`
    the first row with one over `TOLERANCE`.
    """

    model: str
    backend: str
    drafter: str
    gamma: int
    prompt: int
    n_tokens: int
    drafted: int = 0
    difference: int | None = None
    max_difference: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What was checked."""
        return self.model, self.backend, self.drafter, self.gamma, self.prompt


class FirstDifference(msgspec.Struct, frozen=True):
    """The first prompt whose texts part, and after how many tokens."""

    prompt: int
    position: int


class IdentityRow(msgspec.Struct, frozen=True):
    """All prompts of one drafter with drafts of one length on one backend."""

    backend: str
    drafter: str
    gamma: int
    n_prompts: int
    n_identical: int
    n_tokens: int
    drafted: int
    max_difference: float
    first_difference: FirstDifference | None


def bench_identity(
    request: IdentityRequest, settings: Settings, progress: Progress
) -> list[IdentityRow]:
    """Make the checks that are not in the file yet; the rows of all that were asked for.

    Raises `UsageError` for names that there are none of, `InvalidInput` for data without prompts.
    """
    for name, known in ((request.backends, BACKENDS), (request.drafters, (*DRAFTERS, CROP))):
        if unknown := sorted(set(name) - set(known)):
            raise UsageError(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")
    resolved = resolve(settings.generator, settings.cache)
    done = {check.key: check for check in _read(request.checks)}
    wanted = [
        (resolved.sha256[:16], backend, drafter, gamma, prompt)
        for backend in request.backends
        for prompt in range(request.n_prompts)
        for drafter in request.drafters
        for gamma in ([0] if drafter == CROP else request.gammas)
    ]
    progress.start("checking", len(wanted), "text")
    progress.advance(sum(key in done for key in wanted))
    request.checks.parent.mkdir(parents=True, exist_ok=True)
    with request.checks.open("ab") as file:
        for backend in request.backends:
            missing = [key for key in wanted if key[1] == backend and key not in done]
            if not missing:
                continue
            local = msgspec.structs.replace(settings, backend=backend)
            model = open_generator(settings.generator, local)
            prompts = read_prompts(
                request.data,
                request.n_prompts,
                request.max_prompt_tokens,
                model.tokenizer,
                settings,
            )
            bench = _Backend(model, prompts, request.max_tokens)
            for key in missing:
                if key[4] < len(prompts):
                    done[key] = bench.check(*key)
                    file.write(msgspec.json.encode(done[key]) + b"\n")
                    file.flush()
                progress.advance(1)
    progress.finish()
    return list(_rows([done[key] for key in wanted if key in done]))


class _Backend:
    """One model with what its requests taught it."""

    def __init__(
        self, model: LanguageModel, prompts: Sequence[BenchPrompt], max_tokens: int
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._max_tokens = max_tokens
        self._prefixes = PrefixCache(model, PREFIX_BYTES)
        self._memories: dict[tuple[str, int], DraftMemory] = {}
        self._plain: dict[int, list[int]] = {}

    def check(self, model: str, backend: str, drafter: str, gamma: int, prompt: int) -> Check:
        """Decode one prompt and compare."""
        token_ids, expected = self._prompts[prompt].token_ids, self._expected(prompt)
        if drafter == CROP:
            rows = _crop(self._model, token_ids, expected)
            first = next((n for n, most in enumerate(rows) if most > TOLERANCE), None)
            n_tokens = len(expected)
            return Check(model, backend, drafter, gamma, prompt, n_tokens, 0, first, max(rows))
        memory = self._memories.setdefault((drafter, gamma), DraftMemory(prefixes=self._prefixes))
        options = {"max_tokens": self._max_tokens, "drafter": drafter, "draft_tokens": gamma}
        if drafter == "rapid":
            options["verifier"] = "lossless"
        decode = msgspec.convert(options, Decode)
        drafting = Drafting(memory, prompt_ids=token_ids[-RAPID_TOKENS:])
        made = generate(self._model, token_ids, decode, drafting=drafting)
        memory.answers.add(made.token_ids)
        return Check(
            model,
            backend,
            drafter,
            gamma,
            prompt,
            len(expected),
            made.drafted,
            first_difference(made.token_ids, expected),
        )

    def _expected(self, prompt: int) -> list[int]:
        if prompt not in self._plain:
            decode = Decode(self._max_tokens, drafter="none")
            memory = DraftMemory(prefixes=self._prefixes)
            token_ids = self._prompts[prompt].token_ids
            made = generate(self._model, token_ids, decode, drafting=Drafting(memory))
            self._plain[prompt] = made.token_ids
        return self._plain[prompt]


def first_difference(found: Sequence[int], expected: Sequence[int]) -> int | None:
    """Where two texts part; None where they are the same."""
    n_common = min(len(found), len(expected))
    for position in range(n_common):
        if found[position] != expected[position]:
            return position
    return None if len(found) == len(expected) else n_common


def _crop(model: LanguageModel, prompt_ids: list[int], answer_ids: list[int]) -> list[float]:
    """How far each row of the answer's logits is from those of a fresh context."""
    import torch

    fresh, cropped = model.open_context(), model.open_context()
    for context in (fresh, cropped):
        context.forward(prompt_ids, last_only=True)
    expected = fresh.forward(answer_ids)
    cropped.forward(answer_ids[::-1])
    cropped.crop(len(prompt_ids))
    rows: list[torch.Tensor] = []
    size = 1
    while len(rows) < len(answer_ids):
        piece = answer_ids[len(rows) : len(rows) + size]
        # One token too many, then forgotten: what a rejected draft does.
        rows += cropped.forward([*piece, answer_ids[0]])[: len(piece)]
        cropped.crop(len(prompt_ids) + len(rows))
        size = size % MAX_DRAFT_TOKENS + 1
    return [float(most) for most in (torch.stack(rows) - expected).abs().amax(dim=1)]


def _read(path: Path) -> list[Check]:
    """The checks made; a line that was cut short by an interruption is taken off the file."""
    if not path.is_file():
        return []
    written = path.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) < len(written):
        path.write_bytes(whole)
    return [msgspec.json.decode(line, type=Check) for line in whole.splitlines()]


def _rows(checks: Sequence[Check]) -> Iterator[IdentityRow]:
    groups: dict[tuple[str, str, int], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.backend, check.drafter, check.gamma), []).append(check)
    for (backend, drafter, gamma), group in sorted(groups.items()):
        parted = [check for check in group if check.difference is not None]
        first = min(parted, key=lambda check: check.prompt, default=None)
        yield IdentityRow(
            backend,
            drafter,
            gamma,
            n_prompts=len(group),
            n_identical=len(group) - len(parted),
            n_tokens=sum(check.n_tokens for check in group),
            drafted=sum(check.drafted for check in group),
            max_difference=max(check.max_difference for check in group),
            first_difference=None
            if first is None or first.difference is None
            else FirstDifference(first.prompt, first.difference),
        )

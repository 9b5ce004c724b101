"""Real prompts to decode: a question over evidence, as `rag answer` would ask it.

Files are JSON lines, perhaps packed. What a record is, its fields tell: a query with documents
(LLMA), a conversation's first turn (Spec-Bench), a meeting with queries (QMSum), a story with
questions (SQuALITY), or `question` and `context`. In a BEIR folder BM25 finds the evidence.
"""

from __future__ import annotations

import gzip
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from indexes.errors import InvalidInput, MalformedInput
from rag.config import Settings
from rag.generate.language_model import Tokenizer
from rag.generate.prompt import build_prompt
from rag.progress import Silent
from rag.search import Hit

EVIDENCE = 3
"""Passages that a question over a corpus is asked with, as in `rag answer`."""

Asked = tuple[str, list[str]]
"""A question and the texts it is asked about."""


class BenchPrompt(msgspec.Struct, frozen=True):
    """A prompt under the model's chat template, and the file or folder it is from."""

    source: str
    token_ids: list[int]


def read_prompts(
    paths: Sequence[Path],
    n_prompts: int,
    max_prompt_tokens: int,
    tokenizer: Tokenizer,
    settings: Settings,
) -> list[BenchPrompt]:
    """The first prompts of each path, `n_prompts` in all, paths taking turns.

    Raises `InvalidInput` for a path that holds none, `MalformedInput` for a broken line.
    """
    share = -(-n_prompts // len(paths))
    found = []
    for path in paths:
        asked = list(itertools.islice(_asked(path, share, settings), share))
        if not asked:
            raise InvalidInput(f"{path} holds no question over a text")
        name = "/".join(path.parts[-2:])
        found.append([BenchPrompt(name, _ids(one, tokenizer, max_prompt_tokens)) for one in asked])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*found))
    return [prompt for prompt in turns if prompt is not None][:n_prompts]


def _ids(asked: Asked, tokenizer: Tokenizer, max_prompt_tokens: int) -> list[int]:
    question, texts = asked
    if not texts:
        return tokenizer.chat([("user", question)])[:max_prompt_tokens]
    hits = [Hit(str(n), n, 1.0, {}, "", text) for n, text in enumerate(texts, start=1)]
    return build_prompt(tokenizer, question, hits, max_prompt_tokens).token_ids


def _asked(path: Path, n_questions: int, settings: Settings) -> Iterator[Asked]:
    if path.is_dir():
        return _over_corpus(path, n_questions, settings)
    return itertools.chain.from_iterable(_of_record(record) for record in _records(path))


def _of_record(record: dict[str, Any]) -> Iterable[Asked]:
    match record:
        case {"query": str(query), "docs": [*docs]}:
            return [(query, [str(text) for text in docs])]
        case {"category": str(category), "turns": [str(turn), *_]}:
            return [(turn, [])] if category == "rag" else []
        case {"meeting_transcripts": [*turns]}:
            text = "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in turns)
            return [(one["query"], [text]) for one in record["specific_query_list"][:1]]
        case {"document": str(text), "questions": [*questions]}:
            return [(one["question_text"], [text]) for one in questions[:1]]
        case {"question": str(question), "context": str(text)}:
            return [(question, [text])]
    return []


def _over_corpus(folder: Path, n_questions: int, settings: Settings) -> Iterator[Asked]:
    """Questions of a BEIR folder with what BM25 finds for them."""
    from indexes.analyzer import AnalyzerConfig
    from indexes.passages import PassageConfig
    from rag.build import BuildRequest, build_index
    from rag.retrievers.retriever import parse_specs
    from rag.search import SearchRequest
    from rag.service import Service

    queries = next((path for path in sorted(folder.glob("queries.jsonl*"))), None)
    if queries is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        local = msgspec.structs.replace(settings, root=Path(scratch))
        rejects = Path(scratch) / "rejects.jsonl"
        build_index(
            BuildRequest(
                name="bench",
                inputs=[folder],
                retrievers=parse_specs("bm25"),
                analyzer=AnalyzerConfig(),
                passages=PassageConfig(),
                rejects=rejects,
            ),
            local,
            Silent(),
        )
        service = Service(local)
        try:
            for row in itertools.islice(_records(queries), n_questions):
                request = SearchRequest(index="bench", query=row["text"], limit=EVIDENCE)
                hits = service.search(request).hits
                yield row["text"], [hit.text for hit in hits]
        finally:
            service.close()


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield msgspec.json.decode(line, type=dict)
            except msgspec.DecodeError as error:
                raise MalformedInput(f"{path.name}:{number}: {error}") from error

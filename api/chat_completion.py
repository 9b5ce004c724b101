"""What OpenAI's chat completions look like, and what an answer looks like as one of them."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, structs

from indexes.errors import InvalidInput
from indexes.filters import Filter
from rag.answer import AnswerRequest, AnswerResponse, Citation, Decode, DecodeReport, Grammar
from rag.compress.compression import Compression
from rag.search import MAX_QUERY_CHARS, Fusion, Hit, Name, RetrieverChoice

NO_EVIDENCE = "The index holds no evidence for this question."
UNREAD = "only the last message was read: earlier ones and those of the system were not"

StopWord = Annotated[str, Meta(min_length=1, max_length=64)]
Zero = Annotated[float, Meta(ge=0, le=0)]


class TextPart(msgspec.Struct, frozen=True):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, frozen=True):
    """One turn. The last one is the question; what else a turn may carry is ignored."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a last chunk tells the tokens used."""

    include_usage: bool = False


class JsonSchema(msgspec.Struct, frozen=True):
    """A schema that the answer is held to; its name and strictness make no difference."""

    schema: dict[str, Any]


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Plain text, or JSON of a schema."""

    type: Literal["text", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `/v1/answer` can be asked beyond OpenAI's fields."""

    limit: Annotated[int, Meta(ge=1, le=50)] = 3
    retrievers: Annotated[list[RetrieverChoice], Meta(max_length=16)] = []
    fusion: Fusion = Fusion()
    filter: Filter | None = None
    compress: Compression | None = None
    decode: Decode = Decode()
    min_evidence: Annotated[float, Meta(ge=0, le=1)] | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None


class ChatRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chat whose last message is answered from the index that `model` names.

    `temperature` 0 is the default. Fields of OpenAI's that would be ignored are errors, except
    `user`.
    """

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1, max_length=1_000)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop: StopWord | Annotated[list[StopWord], Meta(max_length=8)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=4096)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=4096)] | None = None
    response_format: ResponseFormat | None = None
    n: Literal[1] | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    user: str | None = None
    evident: Extension = Extension()


class Reply(msgspec.Struct, frozen=True):
    """What was said; `refusal` says why nothing was."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """The only choice."""

    message: Reply
    finish_reason: Literal["stop", "length"]
    index: int = 0
    logprobs: None = None


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens that the model read and wrote."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Grounds(msgspec.Struct, frozen=True):
    """What an answer has beyond a chat completion: `citations` point from the content into it."""

    request_id: str
    index_version: int
    status: Literal["ok", "no_evidence"]
    citations: list[Citation]
    evidence: list[Hit]
    decode: DecodeReport
    timings_ms: dict[str, float]
    truncated: bool
    warnings: list[str]


class ChatCompletion(msgspec.Struct, frozen=True):
    """An answer as a chat completion; `evident` has its evidence and citations."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage
    evident: Grounds
    object: Literal["chat.completion"] = "chat.completion"


def question_of(request: ChatRequest) -> AnswerRequest:
    """What `/v1/answer` would be asked. Raises `InvalidInput` where that cannot be."""
    number = len(request.messages) - 1
    last = request.messages[number]
    if last.role != "user":
        raise InvalidInput("the last message must be the user's", f"/messages/{number}/role")
    parts = last.content
    query = parts if isinstance(parts, str) else " ".join(part.text for part in parts or [])
    if not query.strip() or len(query) > MAX_QUERY_CHARS:
        what = f"a question has 1 to {MAX_QUERY_CHARS} characters"
        raise InvalidInput(what, f"/messages/{number}/content")
    asked = structs.asdict(request.evident) | {"decode": _decode(request)}
    return AnswerRequest(index=request.model, query=query, **asked)


def completion_of(request: ChatRequest, answer: AnswerResponse) -> ChatCompletion:
    """The answer as a chat completion."""
    refusal = NO_EVIDENCE if answer.status == "no_evidence" else None
    return ChatCompletion(
        id=f"chatcmpl-{answer.request_id}",
        created=int(time.time()),
        model=request.model,
        choices=[Choice(Reply(answer.answer, refusal=refusal), finish_reason_of(answer))],
        usage=usage_of(answer),
        evident=grounds_of(request, answer),
    )


def usage_of(answer: AnswerResponse) -> TokenUsage:
    """Tokens as OpenAI counts them: those that the model really read."""
    read, written = answer.usage.compressed_tokens, answer.usage.completion_tokens
    return TokenUsage(read, written, read + written)


def finish_reason_of(answer: AnswerResponse) -> Literal["stop", "length"]:
    """Why it ended, in OpenAI's words."""
    return "length" if answer.decode.finish_reason == "length" else "stop"


def grounds_of(request: ChatRequest, answer: AnswerResponse) -> Grounds:
    """Evidence, citations, and what a person should know."""
    unread = [UNREAD] if len(request.messages) > 1 else []
    return Grounds(
        answer.request_id,
        answer.index_version,
        answer.status,
        answer.citations,
        answer.evidence,
        answer.decode,
        answer.timings_ms,
        answer.truncated,
        [*answer.warnings, *unread],
    )


def _decode(request: ChatRequest) -> Decode:
    """The extension's options, OpenAI's fields over them."""
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    given = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": stop,
        "max_tokens": request.max_completion_tokens or request.max_tokens,
        "grammar": _grammar(request.response_format),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return structs.replace(request.evident.decode, **changes)


def _grammar(wanted: ResponseFormat | None) -> Grammar | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is None:
        raise InvalidInput("json_schema needs a schema", "/response_format/json_schema")
    return Grammar(json_schema=wanted.json_schema.schema)

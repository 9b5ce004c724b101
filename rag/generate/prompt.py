"""The prompt: numbered evidence as delimited data, then the question, within a token budget.

Evidence is untrusted. Whatever it says, it cannot end its block, forge a number or speak as
another role: control characters, special tokens, chat markers and bracketed numbers are taken out
of it, and the block is closed by a nonce that its text cannot contain. This narrows prompt
injection; a model may still be swayed by what the evidence says in plain words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import regex

from indexes.errors import InvalidInput
from indexes.sentences import sentence_spans
from rag.generate.language_model import Tokenizer
from rag.search import Hit

SYSTEM = (
    "You answer questions from evidence. Use only the numbered evidence. "
    "Answer in one short sentence."
)
"""Right on 10 of 17 SQuAD training questions with SmolLM2-135M, pooled over three small runs; as a
last line after the question, on 8. Too few to tell them apart for sure."""

MAX_UNIT_CHARS = 400
"""A longer sentence may be cut inside, at white space where there is some."""

CHARS_PER_TOKEN = 16
"""Evidence beyond this many characters a token of the budget is not even looked at."""

_INVISIBLE = regex.compile(r"(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\U000E0100-\U000E01EF]")
_CHAT_MARKER = regex.compile(
    r"</?s>|<</?SYS>>|\[/?INST\]|</?(?:start|end)_of_turn>|</?evidence\b",
    regex.IGNORECASE,
)
_ANGLE_BARS = regex.compile(r"[<|>]{2,}+")
_BRACKETED_NUMBER = regex.compile(r"[\[［【]\s*(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*+)\s*[\]］】]")
_SPACE = regex.compile(r"\s+")


class Prompt(msgspec.Struct, frozen=True):
    """What the model is asked.

    `kept_chars[i]` code points from the start of `evidence[i].text` are in the prompt, 0 for a
    hit left out. `truncated` says that evidence or the question had to be cut.
    """

    messages: list[tuple[str, str]]
    token_ids: list[int]
    kept_chars: list[int]
    truncated: bool


def build_prompt(
    tokenizer: Tokenizer, question: str, evidence: Sequence[Hit], max_prompt_tokens: int
) -> Prompt:
    """Fit the question and as much evidence as possible, best hits first, into the budget.

    Evidence is dropped from the last hit backwards, at ends of sentences. A question of over half
    the budget loses its middle. Raises `InvalidInput` when the question is blank or the budget is
    too small for the instructions.
    """
    cleaned = clean_text(question, tokenizer.special_tokens)
    if not cleaned:
        raise InvalidInput("the question is blank", "/query")
    asked = _shorten(tokenizer, cleaned, max_prompt_tokens // 2)
    units = _units(evidence, max_prompt_tokens * CHARS_PER_TOKEN)

    def attempt(n_units: int) -> Prompt:
        kept = dict(units[:n_units])
        messages = _messages(tokenizer, asked, evidence, kept)
        whole = all(kept.get(index) == len(hit.text) for index, hit in enumerate(evidence))
        kept_chars = [kept.get(index, 0) for index in range(len(evidence))]
        return Prompt(messages, tokenizer.chat(messages), kept_chars, not whole or asked != cleaned)

    prompt = attempt(len(units))
    if len(prompt.token_ids) <= max_prompt_tokens:
        return prompt
    fits, too_many = -1, len(units)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        attempted = attempt(middle)
        if len(attempted.token_ids) <= max_prompt_tokens:
            fits, prompt = middle, attempted
        else:
            too_many = middle
    if fits < 0:
        raise InvalidInput(f"a prompt of {max_prompt_tokens} tokens is too small for a question")
    return prompt


def shown_texts(
    tokenizer: Tokenizer, evidence: Sequence[Hit], kept_chars: Sequence[int]
) -> list[str]:
    """Each hit's line of the prompt without its number; "" for a hit that was left out."""
    special = tokenizer.special_tokens
    return [
        _line(hit, end, special) if end or not hit.text else ""
        for hit, end in zip(evidence, kept_chars, strict=True)
    ]


def clean_text(text: str, special_tokens: frozenset[str]) -> str:
    """`text` as plain data on one line: nothing invisible, no chat marker, no `[1]`.

    What is taken out leaves a space, so that the parts around it never join into a new marker.
    """
    text = _INVISIBLE.sub("", text)
    spelled = regex.compile("|".join(map(regex.escape, special_tokens)) or "(?!)")
    text = _CHAT_MARKER.sub(" ", spelled.sub(" ", text))
    text = _ANGLE_BARS.sub(_without_bars, text)
    return str(_SPACE.sub(" ", _BRACKETED_NUMBER.sub(r"(\1)", text))).strip()


def _without_bars(run: regex.Match[str]) -> str:
    """A space for a run with `<|` or `|>` in it, the fence of most chat markers."""
    return " " if "<|" in run[0] or "|>" in run[0] else run[0]


def _messages(
    tokenizer: Tokenizer, question: str, evidence: Sequence[Hit], kept: Mapping[int, int]
) -> list[tuple[str, str]]:
    special = tokenizer.special_tokens
    lines = []
    # The best evidence stands last, next to the question, where a small model heeds it most.
    for index, end in sorted(kept.items(), reverse=True):
        lines.append(f"[{index + 1}] {_line(evidence[index], end, special)}")
    nonce = _nonce([question, *lines])
    block = "\n".join([f"<evidence {nonce}>", *lines, f"</evidence {nonce}>"])
    return [("system", SYSTEM), ("user", f"{block}\n\nQuestion: {question}")]


def _line(hit: Hit, end: int, special: frozenset[str]) -> str:
    """The title and the first `end` characters of the text, as the model reads them."""
    title, text = clean_text(hit.title, special), clean_text(hit.text[:end], special)
    return f"{title}: {text}" if title and text else title or text


def _nonce(lines: Sequence[str]) -> str:
    """Six hex digits that occur in none of the lines, and that no single document can foresee.

    Drawn from a hash of the whole request and not at random, so that the same request gives the
    same prompt, and greedy decoding the same answer.
    """
    text = "\n".join(lines)
    digest = hashlib.sha256(text.encode()).hexdigest()
    while digest[:6] in text:
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest[:6]


def _units(evidence: Sequence[Hit], max_chars: int) -> list[tuple[int, int]]:
    """Every place where the evidence may be cut, best first: (index of hit, end of its text)."""
    units: list[tuple[int, int]] = []
    for index, hit in enumerate(evidence):
        text = hit.text[: max(0, max_chars)]
        if hit.text and not text:
            break
        ends = [cut for start, end in sentence_spans(text) for cut in _cuts(text, start, end)]
        # The last unit takes the hit's text to its very end, white space included.
        ends[-1:] = [len(text)]
        units += [(index, end) for end in ends]
        max_chars -= len(text)
    return units


def _cuts(text: str, start: int, end: int) -> list[int]:
    """Ends of the pieces of one sentence: its own end, and some inside it when it is very long."""
    cuts = []
    while end - start > MAX_UNIT_CHARS:
        space = text.rfind(" ", start + 1, start + MAX_UNIT_CHARS)
        start = space if space > 0 else start + MAX_UNIT_CHARS
        cuts.append(start)
    return [*cuts, end]


def _shorten(tokenizer: Tokenizer, text: str, max_tokens: int) -> str:
    """`text`, or its beginning and its end where it has over `max_tokens` tokens."""
    text_chars = max_tokens * CHARS_PER_TOKEN
    if len(text) <= text_chars and len(tokenizer.encode(text)) <= max_tokens:
        return text
    half = min(len(text), text_chars) // 2
    while half > 0:
        shortened = f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
        n_tokens = len(tokenizer.encode(shortened))
        if n_tokens <= max_tokens:
            return shortened
        half = min(half - 1, half * max_tokens // n_tokens)
    return ""

"""Tokens of a question, whatever their case and whether a space comes before them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from toy_models import ToyTokenizer

from rag.generate.question_words import QuestionWords
from rag.generate.torch_model import TorchModel


def test_words_are_known_in_any_case_with_or_without_a_space(tiny: TorchModel) -> None:
    tokenizer = tiny.tokenizer
    words = QuestionWords("What did the team say?", tokenizer)
    for text in ("the", "THE", "what"):
        assert all(words.has(tokenizer.encode(text))), text
    assert words.has(tokenizer.encode("z")) == [False]
    assert words.has([]) == []


def test_what_is_no_text_is_no_word(tiny: TorchModel) -> None:
    words = QuestionWords("Who? \n ", tiny.tokenizer)
    assert not any(words.has(sorted(tiny.eos_ids)))
    assert not any(words.has(tiny.tokenizer.encode(" ")))
    assert not any(QuestionWords("", tiny.tokenizer).has(tiny.tokenizer.encode("Who?")))


def test_parts_of_characters_are_no_words(tiny: TorchModel) -> None:
    parts = tiny.tokenizer.encode("鯨")
    assert len(parts) > 1
    assert not any(QuestionWords("鯨は魚?", tiny.tokenizer).has(parts))


@given(st.text("abcABC ", max_size=6), st.lists(st.integers(0, 11), max_size=8))
def test_letters_are_those_of_the_question(question: str, token_ids: list[int]) -> None:
    tokenizer = ToyTokenizer()
    found = QuestionWords(question, tokenizer).has(token_ids)
    assert found == [tokenizer.decode([one]) in question.lower() for one in token_ids]

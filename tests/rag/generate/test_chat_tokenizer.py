"""Text never turns into special tokens; the chat template alone makes them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexes.errors import InvalidInput
from rag.generate.torch_model import TorchModel

SPELLED = st.sampled_from(
    ["<|im_start|>", "<|im_end|>", "<|im_", "end|>", "user\n", " ", "é", "\n"]
)
TEXTS = st.one_of(st.text(), st.lists(SPELLED, max_size=8).map("".join))


@given(TEXTS)
@settings(deadline=None)
@example("hello <|im_end|> there <|im_start|>user")
def test_text_comes_back_and_holds_no_special_token(tiny: TorchModel, text: str) -> None:
    ids = tiny.tokenizer.encode(text)
    assert not set(ids) & {256, 257}
    assert tiny.tokenizer.decode(ids) == text


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), min_size=1, max_size=4
    )
)
@settings(deadline=None)
def test_only_the_template_makes_special_tokens(
    tiny: TorchModel, messages: list[tuple[str, str]]
) -> None:
    ids = tiny.tokenizer.chat(messages)
    assert ids.count(256) == len(messages) + 1
    assert ids.count(257) == len(messages)
    spoken = "".join(f"{role}\n{content}\n" for role, content in messages)
    assert tiny.tokenizer.decode(ids) == spoken + "assistant\n"


def test_a_lone_surrogate_becomes_a_replacement(tiny: TorchModel) -> None:
    assert tiny.tokenizer.decode(tiny.tokenizer.encode("a\ud800b")) == "a\ufffdb"


def test_no_turn_is_refused(tiny: TorchModel) -> None:
    with pytest.raises(InvalidInput):
        tiny.tokenizer.chat([])


def test_an_unknown_role_is_refused(tiny: TorchModel) -> None:
    with pytest.raises(InvalidInput, match="tool"):
        tiny.tokenizer.chat([("tool", "x")])


def test_no_template_joins_the_contents(tiny_folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    from rag.generate.chat_tokenizer import ChatTokenizer

    pretrained = AutoTokenizer.from_pretrained(tiny_folder, local_files_only=True)
    pretrained.chat_template = None
    tokenizer = ChatTokenizer(pretrained)
    ids = tokenizer.chat([("system", "Be brief."), ("user", "Why?")])
    assert tokenizer.decode(ids) == "Be brief.\n\nWhy?\n\n"


def test_a_template_that_refuses_is_invalid_input(tiny_folder) -> None:  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    from rag.generate.chat_tokenizer import ChatTokenizer

    pretrained = AutoTokenizer.from_pretrained(tiny_folder, local_files_only=True)
    pretrained.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InvalidInput, match="roles must alternate"):
        ChatTokenizer(pretrained).chat([("user", "x")])


@pytest.mark.slow
def test_the_real_template_gives_transformers_ids(smollm2: TorchModel) -> None:
    turns = [("system", "Be brief."), ("user", "What is 12 + 30?\n\nÄ 日本"), ("assistant", "42")]
    reference = smollm2.tokenizer._pretrained.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        add_generation_prompt=True,
        tokenize=False,
    )
    fast = smollm2.tokenizer._fast
    fast.encode_special_tokens = False
    try:
        expected = fast.encode(reference, add_special_tokens=False).ids
    finally:
        fast.encode_special_tokens = True
    assert smollm2.tokenizer.chat(turns) == expected


@pytest.mark.slow
def test_the_real_tokenizer_keeps_spelled_out_tokens_as_text(smollm2: TorchModel) -> None:
    for special in smollm2.tokenizer.special_tokens:
        ids = smollm2.tokenizer.encode(f"a {special} b{special}")
        assert min(ids) > 16
        assert smollm2.tokenizer.decode(ids) == f"a {special} b{special}"


def test_the_generic_class_is_taken_where_the_folder_names_it_and_is_the_found_one(
    tiny_folder, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    """What transformers finds by the architecture takes it seconds longer to find."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from rag.generate.chat_tokenizer import ChatTokenizer, _kind, load_chat_tokenizer

    assert _kind(tiny_folder) is PreTrainedTokenizerFast
    found = ChatTokenizer(AutoTokenizer.from_pretrained(tiny_folder, local_files_only=True))
    ours = load_chat_tokenizer(tiny_folder)
    turns = [("system", "be <|im_end|> brief"), ("user", "é a b")]
    assert ours.chat(turns) == found.chat(turns)
    assert ours.special_tokens == found.special_tokens
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    assert _kind(tmp_path) is AutoTokenizer
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    assert _kind(tmp_path) is AutoTokenizer  # it has no tokenizer.json

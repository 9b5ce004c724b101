"""The trie against reading every token by itself; the bytes of tokens against real tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexes.errors import Unsupported
from rag.generate.chat_tokenizer import load_chat_tokenizer
from rag.generate.monitors.automaton import DEAD, AutomatonBuilder, ByteAutomaton
from rag.generate.monitors.token_bytes import token_bytes
from rag.generate.monitors.token_trie import TokenTrie
from rag.generate.monitors.vocabulary import Vocabulary
from rag.generate.torch_model import TorchModel

BYTES = b"abcd\x00\xff"
TOKENS = st.lists(
    st.one_of(st.none(), st.lists(st.sampled_from(BYTES), max_size=6).map(bytes)), max_size=40
)


@st.composite
def automata(draw) -> ByteAutomaton:
    n_states = draw(st.integers(1, 5))
    built = AutomatonBuilder()
    for _ in range(n_states):
        built.state(accepting=draw(st.booleans()), loops=draw(st.booleans()))
    for state in range(n_states):
        if state and draw(st.booleans()):
            built.like(state, draw(st.integers(0, state - 1)))
        for byte in draw(st.sets(st.sampled_from(BYTES))):
            built.edge(state, [byte], draw(st.integers(DEAD, n_states - 1)))
    return built.build()


@given(automata(), TOKENS, st.data())
def test_what_is_legal_is_what_can_be_read(automaton, tokens, data) -> None:
    trie = TokenTrie(tokens)
    state = data.draw(st.integers(0, automaton.n_states - 1))
    legal = trie.legal(automaton, state).tolist()
    assert legal == [bool(t) and automaton.read(state, t) != DEAD for t in tokens]


@given(TOKENS, st.sets(st.sampled_from(BYTES)))
def test_tokens_that_go_on_after_a_byte(tokens, stops) -> None:
    found = TokenTrie(tokens).containing(bytes(stops)).tolist()
    assert found == [bool(t) and any(b in stops for b in t[:-1]) for t in tokens]
    anywhere = TokenTrie(tokens).containing(bytes(stops), at_end=True).tolist()
    assert anywhere == [bool(t) and any(b in stops for b in t) for t in tokens]


def test_states_like_each_other_in_a_circle() -> None:
    built = AutomatonBuilder()
    one, other = built.state(), built.state()
    built.like(one, other)
    built.like(other, one)
    with pytest.raises(ValueError, match="circle"):
        built.build()


def test_a_mask_is_as_wide_as_the_logits() -> None:
    """A padded head has more logits than there are tokens: those are never legal."""
    vocabulary = Vocabulary(TokenTrie([b"a", None, b"b", b""]), 6, frozenset({1}))
    legal = vocabulary.trie.legal(_only(b"a"), 0)
    assert vocabulary.mask(legal, may_end=False).tolist() == [True] + 5 * [False]
    assert vocabulary.mask(legal, may_end=True).tolist() == [True, True, False, True, False, False]
    everything = vocabulary.trie.legal(_only(b"ab"), 0)
    assert vocabulary.mask(everything, may_end=True) is None
    assert vocabulary.spelling(5) == b""


def _only(data: bytes) -> ByteAutomaton:
    built = AutomatonBuilder()
    built.edge(built.state(), data, 0)
    return built.build()


TEXTS = [
    "Hello, wörld!",
    " leading",
    "日本語 Привет 👍🏽\n\n\ttabs  and   spaces",
    'x.get("a")[1] 3.14',
]


def spelled(tokenizer, text: str) -> bytes:
    pieces = [tokenizer.trie.spelled[id_] for id_ in tokenizer.encode(text)]
    assert None not in pieces
    return b"".join(pieces)


@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_tokens_make_up_the_text(tiny: TorchModel, text: str) -> None:
    assert spelled(tiny.tokenizer, text) == text.encode()
    assert [tiny.tokenizer.trie.spelled[id_] for id_ in tiny.eos_ids] == [None]


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_real_tokens_make_up_the_text(smollm2: TorchModel, text: str) -> None:
    assert spelled(smollm2.tokenizer, text) == text.encode()


@pytest.mark.parametrize("decoder", ["fallback", "metaspace"])
def test_sentencepiece_tokens_make_up_the_text(tmp_path: Path, decoder: str) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", "a", "b", "é", "ab"]
    vocabulary = {spelling: id_ for id_, spelling in enumerate(letters)}
    fast = Tokenizer(models.BPE(vocabulary, [("a", "b")], byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", "\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    fast.decoder = decoders.Sequence(steps) if decoder == "fallback" else decoders.Metaspace()
    PreTrainedTokenizerFast(tokenizer_object=fast).save_pretrained(tmp_path)
    tokenizer = load_chat_tokenizer(tmp_path)
    for text in ["ab a é zz", "日本 ab"]:
        assert spelled(tokenizer, text) == text.encode()


def test_another_kind_of_tokenizer_is_refused() -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(Unsupported):
        token_bytes(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))

"""Streamed text is whole characters and never part of a stop string."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rag.generate.stop import StopStrings, TextStream


def decode_bytes(token_ids: list[int]) -> str:
    """One token a byte: the hardest case for whole characters."""
    return bytes(token_ids).decode(errors="replace")


def decode_words(token_ids: list[int]) -> str:
    """Drops the space before the first token, as SentencePiece decoders do."""
    return "".join([" a", " bc", "d", "é", ""][id_] for id_ in token_ids).removeprefix(" ")


@given(st.text())
def test_bytes_come_out_as_whole_characters(text: str) -> None:
    stream = TextStream(decode_bytes)
    pieces = [stream.push(byte) for byte in text.encode()]
    shown = "".join(pieces)
    assert text.startswith(shown)
    assert (shown + stream.finish()).rstrip("\ufffd") == text.rstrip("\ufffd")


@given(st.lists(st.integers(0, 255), max_size=40))
@example([0xE2, 0x82])
@example([0x41, 0xF0, 0x9F, 0x98])
@example([0xFF, 0x41, 0xC3])
def test_any_bytes_decode_as_they_would_at_once(token_ids: list[int]) -> None:
    stream = TextStream(decode_bytes)
    shown = "".join(stream.push(id_) for id_ in token_ids)
    assert shown == "" or not shown.endswith("\ufffd")
    whole = decode_bytes(token_ids)
    assert shown + stream.finish() == whole.rstrip("\ufffd")


@given(st.lists(st.integers(0, 4), max_size=30))
def test_spaces_between_words_are_kept(token_ids: list[int]) -> None:
    stream = TextStream(decode_words)
    shown = "".join(stream.push(id_) for id_ in token_ids)
    assert shown + stream.finish() == decode_words(token_ids)


def cut_by_twin(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: the first stop string to be complete cuts the text."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


LETTERS = st.text(alphabet="ab\n", max_size=12)


@given(st.lists(LETTERS, max_size=8), st.lists(LETTERS.filter(bool), max_size=3))
@example(["a", "b", "a", "b", "b"], ["abb"])
@example(["ab", "c"], ["abcdX", "c"])
def test_stop_strings_cut_whatever_the_pieces(pieces: list[str], stops: list[str]) -> None:
    matcher = StopStrings(stops)
    shown = ""
    for at, piece in enumerate(pieces):
        shown += matcher.push(piece)
        cut, stopped = cut_by_twin("".join(pieces[: at + 1]), stops)
        assert matcher.stopped == stopped
        assert cut.startswith(shown)
        held = cut[len(shown) :]
        assert not held or any(stop.startswith(held) for stop in stops)
    expected, stopped = cut_by_twin("".join(pieces), stops)
    assert shown + matcher.finish() == expected


def test_nothing_is_held_without_reason() -> None:
    matcher = StopStrings(["\n\nQ:"])
    assert matcher.push("a\n") == "a"
    assert matcher.push("b") == "\nb"
    assert matcher.push("\n\n") == ""
    assert matcher.push("Q") == ""
    assert matcher.push(": more") == ""
    assert matcher.stopped
    assert matcher.push("x") == ""
    assert matcher.finish() == ""

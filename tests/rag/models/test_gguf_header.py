from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexes.errors import ModelError
from rag.models.gguf_header import read_gguf_header

# The reference writer leaves empty strings out.
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def write(path: Path, scalars: dict[str, int | float | bool | str], words: list[str]) -> None:
    """The reference writer, with arrays between the scalars."""
    writer = GGUFWriter(path, "llama")
    for key, value in scalars.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case str():
                writer.add_string(key, value)
            case int():
                writer.add_int64(key, value)
            case float():
                writer.add_float64(key, value)
        writer.add_array(f"array.{key}", words or ["x"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_string("last", "end")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scalars=st.dictionaries(
        st.from_regex(r"[a-z]{1,8}\.[a-z]{1,8}", fullmatch=True),
        st.booleans()
        | TEXT
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False),
        max_size=5,
    ),
    words=st.lists(TEXT, max_size=4),
)
def test_scalars_come_back(
    tmp_path: Path, scalars: dict[str, int | float | bool | str], words: list[str]
) -> None:
    path = tmp_path / "model.gguf"
    write(path, scalars, words)
    assert read_gguf_header(path) == {"general.architecture": "llama", **scalars, "last": "end"}


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, {"a.b": 7, "c.d": "text"}, ["one", "two"])
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            read_gguf_header(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 no", b"GGUF" + b"\xff" * 60, b"GGUF\x03" + b"\0" * 11 + b"\xff" * 8],
)
def test_other_files_are_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        read_gguf_header(path)

"""Bodies: grammar before types, linear scans, pointers that point."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body import decode, nested_deeper
from api.pointer import split_message
from indexes.errors import InvalidInput, MalformedInput
from rag.search import SearchRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)


def depth(value: object) -> int:
    """The slow twin: walk the parsed value."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@pytest.mark.slow
@given(JSON, st.integers(0, 8))
def test_depth_equals_a_walk_over_the_value(value, limit):
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert nested_deeper(body, limit) == (depth(value) > limit)


@given(st.binary(), st.integers(0, 5))
def test_depth_never_fails_on_any_bytes(body, limit):
    assert nested_deeper(body, limit) in {True, False}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 300_000,
        b"[]" * 150_000,
        b'"' * 299_999,
        b'"' + b'\\"' * 150_000,
        b'\\"' * 150_000,
        b'{"a":' * 60_000,
    ],
)
@pytest.mark.timeout(10)
def test_hostile_bodies_are_refused_in_linear_time(body):
    # Quadratic time would be hours here; the timeout is the assertion.
    with pytest.raises(MalformedInput):
        decode(body, SearchRequest, 64)


def test_nesting_at_the_limit_is_read_and_beyond_it_refused():
    at_limit = b"[" * 64 + b"]" * 64
    with pytest.raises(InvalidInput, match="Expected `object`, got `array`"):
        decode(at_limit, SearchRequest, 64)
    with pytest.raises(MalformedInput, match="deeper than 64"):
        decode(b"[" + at_limit + b"]", SearchRequest, 64)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" ", "ends too early"),
        (b'{"index":"a","query":"\xff"}', "not UTF-8: bad byte at 22"),
        (b'{"index":"a","query":"\xed\xa0\x80"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"index":"a"}', "byte 0"),
        (b'{"index":"a",}', "trailing comma"),
        (b'{"index":"a"', "ends too early"),
        (b'{"index":"a"} {}', "trailing characters"),
        (b'{"limit":NaN}', "invalid character"),
        (b'{"limit":-Infinity}', "invalid"),
        (b'{"query":"\\ud800"}', "surrogate"),
        (b'{"query":"\\ud800 and more text"}', "surrogate"),
        (b'{"query":"\\udc00"}', "surrogate"),
        (b"{'index':'a'}", "byte 1"),
    ],
)
def test_malformed(body, words):
    with pytest.raises(MalformedInput, match=words):
        decode(body, SearchRequest, 64)


@pytest.mark.parametrize(
    ("extra", "pointer"),
    [
        ({"limit": "ten"}, "/limit"),
        ({"limit": 0}, "/limit"),
        ({"limit": True}, "/limit"),
        ({"limit": 10**30}, "/limit"),
        ({"index": "../etc"}, "/index"),
        ({"query": None}, "/query"),
        ({"top_k": 3}, "/top_k"),
        ({"a/b~c": 3}, "/a~1b~0c"),
        ({"fusion": {"k": 0}}, "/fusion/k"),
        ({"retrievers": [{"name": "bm25"}, {"name": "B"}]}, "/retrievers/1/name"),
        ({"retrievers": [{"weight": 1}]}, "/retrievers/0/name"),
        ({"filter": {"must": [{"field": "a", "in": [1, []]}]}}, "/filter/must/0/in/1"),
        ({"filter": {"must": [{"field": "a", "any": 1}]}}, "/filter/must/0/any"),
    ],
)
def test_invalid_points_at_the_culprit(extra, pointer):
    body = json.dumps({"index": "few", "query": "x"} | extra).encode()
    with pytest.raises(InvalidInput) as caught:
        decode(body, SearchRequest, 64)
    assert caught.value.pointer == pointer


def test_a_number_out_of_range_is_invalid_not_malformed():
    with pytest.raises(InvalidInput, match="out of range"):
        decode(b'{"index":"a","query":"x","limit":1e999}', SearchRequest, 64)


def test_of_a_key_given_twice_the_last_wins():
    assert decode(b'{"index":"a","index":"b","query":"x"}', SearchRequest, 64).index == "b"


@given(st.text(), st.text(alphabet="$`/~.[]ab"))
def test_pointers_can_always_be_followed_back(value, field):
    """An unknown field of any name is pointed at by a well-formed pointer to it."""
    known = {field.name for field in msgspec.structs.fields(SearchRequest)}
    if field in known:
        return
    body = json.dumps({"index": "few", "query": "x", field: value}).encode()
    with pytest.raises((InvalidInput, MalformedInput)) as caught:
        decode(body, SearchRequest, 64)
    if isinstance(caught.value, InvalidInput):
        step = caught.value.pointer.removeprefix("/")
        assert step.replace("~1", "/").replace("~0", "~") == field


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Expected `int`", ("Expected `int`", "")),
        ("Expected `int` - at `$`", ("Expected `int`", "")),
        ("Bad - at `$.a[0].b`", ("Bad", "/a/0/b")),
        ("Bad - at `$.metadata[...].x`", ("Bad", "/metadata")),
        ("Bad - at `key` in `$.m`", ("Bad", "/m")),
    ],
)
def test_paths_become_pointers(message, expected):
    assert split_message(message) == expected

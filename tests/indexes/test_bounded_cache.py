"""The bound holds, what was used last stays, and nothing is given back that was not put."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from indexes.bounded_cache import BoundedCache
from rag.result_cache import ResultCache
from rag.search import SearchRequest, SearchResponse

STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 12), st.integers(0, 30)), max_size=80
)


@given(steps=STEPS, max_bytes=st.integers(0, 120))
def test_it_equals_a_list_that_is_cut_at_its_old_end(steps, max_bytes):
    cache = BoundedCache(max_bytes, lambda _, value: value)
    model: OrderedDict[int, int] = OrderedDict()
    hits = misses = 0
    for action, key, value in steps:
        if action == "put":
            cache.put(key, value)
            if value <= max_bytes // 8:
                model.pop(key, None)
                model[key] = value
                while sum(model.values()) > max_bytes:
                    model.popitem(last=False)
        else:
            found = cache.get(key)
            assert found == model.get(key)
            if found is None:
                misses += 1
            else:
                hits += 1
                model.move_to_end(key)
        state = cache.state()
        assert state.n_bytes == sum(model.values()) <= max_bytes
        assert state.n_entries == len(model)
    assert (state.hits, state.misses) == (hits, misses) if steps else True


def test_results_are_told_apart_by_snapshot_and_request_but_not_by_time_allowed():
    cache = ResultCache(1_000_000)
    asked = SearchRequest("demo", "penicillin")
    response = SearchResponse("r", "demo", 1, [], {})
    cache.put(1, asked, response)
    assert cache.get(1, SearchRequest("demo", "penicillin", timeout_ms=5)) is response
    assert cache.get(2, asked) is None
    for other in (
        SearchRequest("demo", "Penicillin"),
        SearchRequest("demo", "penicillin", limit=9),
        SearchRequest("demo", "penicillin", explain=True),
        SearchRequest("other", "penicillin"),
    ):
        assert cache.get(1, other) is None


def test_a_cache_of_nothing_keeps_nothing():
    cache = ResultCache(0)
    cache.put(1, SearchRequest("demo", "x"), SearchResponse("r", "demo", 1, [], {}))
    assert cache.get(1, SearchRequest("demo", "x")) is None
    assert cache.state().n_entries == 0

"""Small segments are merged as they pile up: the content is what an index without merging holds."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from library import BM25, build, upsert

from indexes.document import Document
from indexes.snapshot import Snapshot
from indexes.writer import IndexWriter

STEPS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=14)


@pytest.mark.slow
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, most=st.integers(1, 4))
def test_it_equals_a_dict(tmp_path_factory, steps, most):
    folder = tmp_path_factory.mktemp("merged") / "index"
    build(folder, [Document("first", "the first one")], [BM25])
    model = {"first": "the first one"}
    for number, (key, delete) in enumerate(steps):
        name = f"d{key}"
        if delete and name in model:
            with IndexWriter(folder) as writer:
                writer.delete([name])
            del model[name]
        else:
            text = f"text {number} of {name}"
            upsert(folder, [Document(name, text)])
            model[name] = text
        with IndexWriter(folder) as writer:
            before = writer.manifest()
            after = writer.merge_small(most)
            assert len(after.segments) <= max(most, len(before.segments))
            if len(before.segments) > most:
                assert after.corpus_sha256 == before.corpus_sha256
    snapshot = Snapshot(folder, checksums=True)
    found = {key: snapshot.document(key).text for key in snapshot.live_ids()}
    snapshot.close()
    assert found == model


@pytest.mark.slow
def test_segments_stay_few_and_the_large_one_is_left_alone(tmp_path):
    folder = tmp_path / "index"
    build(folder, [Document(f"old{n}", f"old text {n}") for n in range(200)], [BM25])
    with IndexWriter(folder) as writer:
        large = writer.manifest().segments[0].id
    for number in range(60):
        upsert(folder, [Document(f"new{number}", "new text")])
        with IndexWriter(folder) as writer:
            segments = writer.merge_small(4).segments
        assert len(segments) <= 8
        assert segments[0].id == large

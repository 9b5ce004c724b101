from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.run import read_run, strictly_decreasing, write_run
from indexes.errors import InvalidInput, MalformedInput, NotFound

SCORES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.one_of(
        st.floats(-1e30, 1e30, allow_nan=False),
        st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-9, 1.0 + 1e-12, 1e-45, -1e-45, 1e-60, 3e7]),
    ),
    min_size=1,
    max_size=40,
)


def one_step_at_a_time(scores):
    """The twin: walk down the ranking and take the next lower float32 where it must."""
    order = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    out, before = [], np.float32(np.inf)
    for document_id, score in order:
        value = np.float32(score) + np.float32(0)
        if not value < before:
            value = np.nextafter(before, np.float32(-np.inf), dtype=np.float32)
        out.append((document_id, float(value)))
        before = value
    return out


@given(SCORES)
def test_strictly_decreasing_equals_its_twin(scores):
    assert strictly_decreasing(scores) == one_step_at_a_time(scores)


@settings(deadline=None)  # it writes a file each time
@given(SCORES)
def test_a_written_run_keeps_its_strict_order_in_both_float_widths(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("run") / "x.trec"
    write_run(path, {"q": scores}, "tag")
    rows = [line.split() for line in path.read_text().splitlines()]
    wide = np.array([float(row[4]) for row in rows])
    narrow = wide.astype(np.float32)
    assert (np.diff(wide) < 0).all()
    assert (np.diff(narrow) < 0).all()
    assert [row[3] for row in rows] == [str(rank + 1) for rank in range(len(rows))]
    expected = strictly_decreasing(scores)
    assert [row[2] for row in rows] == [document for document, _ in expected]
    assert narrow.tolist() == [score for _, score in expected]


def test_ties_are_broken_by_document_id():
    ranked = strictly_decreasing({"c": 1.0, "a": 1.0, "b": 2.0})
    assert [document for document, _ in ranked] == ["b", "a", "c"]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_scores_without_a_float32_are_refused(score):
    with pytest.raises(InvalidInput, match="finite"):
        strictly_decreasing({"a": score, "b": 1.0})


def test_gzip_run_reads_back_and_has_the_same_bytes_each_time(tmp_path):
    run = {"q1": {"a": 2.5, "b": 2.5}, "q2": {"c": -1.0}}
    path = tmp_path / "x.trec.gz"
    write_run(path, run, "bm25")
    first = path.read_bytes()
    write_run(path, run, "bm25")
    assert path.read_bytes() == first
    assert gzip.decompress(first).decode().splitlines()[0] == "q1 Q0 a 1 2.5 bm25"
    back = read_run(path)
    assert list(back["q1"]) == ["a", "b"]
    assert back["q2"] == {"c": -1.0}


@pytest.mark.parametrize("bad", ["a b", "", "a\tb", "a\u00a0b"])
def test_ids_that_the_format_cannot_carry(tmp_path, bad):
    with pytest.raises(InvalidInput, match="white space"):
        write_run(tmp_path / "x.trec", {"q": {bad: 1.0}}, "t")
    with pytest.raises(InvalidInput, match="white space"):
        write_run(tmp_path / "x.trec", {bad: {"d": 1.0}}, "t")
    assert not (tmp_path / "x.trec").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q Q0 d2 1 nan t", "score is nan"),
        ("q Q0 d2 1 inf t", "score is inf"),
        ("q Q0 d2 1 high t", "not a number"),
        ("q Q0 d2 first 1.0 t", "not a number"),
        ("q Q0 d2 1.0 t", "found 5"),
        ("q Q0 d2 1 1.0 t extra", "found 7"),
        ("q Q0 d1 2 0.5 t", "there twice"),
    ],
)
def test_broken_runs_name_the_line(tmp_path, line, reason):
    path = tmp_path / "x.trec"
    path.write_text(f"q Q0 d1 1 1.0 t\n\n{line}\n")
    with pytest.raises(InvalidInput, match=f"line 3.*{reason}"):
        read_run(path)


def test_missing_empty_and_damaged_files(tmp_path):
    with pytest.raises(NotFound):
        read_run(tmp_path / "none.trec")
    (tmp_path / "empty.trec").write_text("\n")
    with pytest.raises(InvalidInput, match="no ranking"):
        read_run(tmp_path / "empty.trec")
    (tmp_path / "latin.trec").write_bytes(b"q Q0 d\xe9 1 1.0 t\n")
    with pytest.raises(MalformedInput):
        read_run(tmp_path / "latin.trec")
    packed = gzip.compress("".join(f"q Q0 d{i} 1 1.0 t\n" for i in range(99)).encode())
    for name, data in (("cut.trec.gz", packed[:-12]), ("plain.trec.gz", b"q Q0 d 1 1.0 t\n")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MalformedInput):
            read_run(tmp_path / name)

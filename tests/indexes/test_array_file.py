"""Our reader of `.npy` files is NumPy's own, but for threads and for what we never write."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from indexes.array_file import map_array, read_array

TYPES = st.sampled_from(["<u1", "<u2", "<u4", "<i8", "<f4", "<f8", "<f2", "|b1", ">i4"])


@given(
    array=TYPES.flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0, max_dims=3))
    ),
    fortran=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_it_reads_what_numpy_reads(tmp_path, array, fortran):
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(array) if fortran and array.ndim else array)
    expected = np.load(path, allow_pickle=False)
    for read in (read_array, map_array):
        found = read(path)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()


def damaged(change: str) -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(100, dtype=np.uint32))
    data = file.getvalue()
    match change:
        case "empty":
            return b""
        case "short":
            return data[:-1]
        case "header cut":
            return data[:40]
        case "no magic":
            return b"x" + data[1:]
        case "objects":
            return data.replace(b"<u4", b"|O8")
        case "code":
            return data.replace(b"'shape': (100,)", b"'shape': (__,)")
        case _:
            return data[:6] + bytes([9, 0]) + data[8:]


@pytest.mark.parametrize("read", [read_array, map_array])
@pytest.mark.parametrize(
    "change", ["empty", "short", "header cut", "no magic", "objects", "code", "later format"]
)
def test_damaged_files_are_refused(tmp_path: Path, read, change: str):
    path = tmp_path / "a.npy"
    path.write_bytes(damaged(change))
    with pytest.raises((ValueError, OSError)):
        read(path)


@pytest.mark.slow
def test_many_threads_read_at_once(tmp_path: Path):
    for number in range(8):
        np.save(tmp_path / f"{number}.npy", np.arange(number + 1))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: len(map_array(tmp_path / f"{k % 8}.npy")), range(4000)))
    assert found == [k % 8 + 1 for k in range(4000)]

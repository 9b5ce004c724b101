"""Arrays as `.npy` files: read whole or mapped, by any number of threads at once.

NumPy reads a file's header with `ast.literal_eval`, and CPython 3.11's parser counts its recursion
once for all threads: two that open an index at the same time can fail with `SystemError` ("AST
constructor recursion depth mismatch"). The headers that NumPy writes are of one form, read here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_HEADER = re.compile(
    rb"\{'descr': '([<>|=][biufc]\d{1,2})', 'fortran_order': (False|True), "
    rb"'shape': \((\d*(?:, ?\d+)*),?\), \} *\n"
)
_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}


def read_array(path: Path) -> NDArray[Any]:
    """The array that a file holds; raises `ValueError` or `OSError` for a damaged one."""
    with path.open("rb") as file:
        dtype, shape, order = _header(file, path)
        n_items = int(np.prod(shape, dtype=np.int64))
        items = np.fromfile(file, dtype=dtype, count=n_items)
    if len(items) != n_items:
        raise ValueError(f"{path.name} has {len(items)} of {n_items} items")
    return items.reshape(shape, order=order)


def map_array(path: Path) -> NDArray[Any]:
    """The array that a file holds, mapped for reading; raises as `read_array` does."""
    with path.open("rb") as file:
        dtype, shape, order = _header(file, path)
        offset = file.tell()
    if 0 in shape:
        # An empty file cannot be mapped.
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape, order))


def _header(file: IO[bytes], path: Path) -> tuple[np.dtype[Any], tuple[int, ...], Any]:
    """Item type, shape and memory order; the file is left where the items begin."""
    length_bytes = _LENGTH_BYTES.get(npy.read_magic(file))
    if length_bytes is None:
        raise ValueError(f"{path.name} is of a later format of arrays")
    length = int.from_bytes(file.read(length_bytes), "little")
    found = _HEADER.fullmatch(file.read(length))
    if found is None:
        raise ValueError(f"{path.name} does not begin as an array of numbers does")
    kind, fortran, shape = found.groups()
    sizes = tuple(int(size) for size in shape.split(b",") if size.strip())
    return np.dtype(kind.decode()), sizes, "F" if fortran == b"True" else "C"

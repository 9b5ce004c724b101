"""A GGUF file's 4-bit weights in another 4-bit form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_NEW_FILE_TYPE = 2
"""`general.file_type` of files that are mostly Q4_0."""


def requantised(source: Path, target: Path) -> Path:
    """`source` with its matrices of 4 bits as Q4_0, written to `target` where it is not there yet.

    Tensors of other kinds, and everything that is no tensor, stay as they are.
    """
    import gguf

    if target.is_file():
        return target
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    partial = target.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, architecture)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            _copy(writer, name, field)
    new = gguf.GGMLQuantizationType.Q4_0
    for tensor in reader.tensors:
        if tensor.tensor_type.name.startswith("Q4_"):
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            codes = gguf.quants.quantize(values.astype(np.float32), new)
            writer.add_tensor(tensor.name, codes, raw_dtype=new)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(target)
    return target


def _copy(writer: Any, name: str, field: Any) -> None:
    import gguf

    kind = field.types[0]
    if name == "general.file_type":
        writer.add_uint32(name, _NEW_FILE_TYPE)
    elif kind == gguf.GGUFValueType.ARRAY:
        writer.add_array(name, field.contents())
    else:
        writer.add_key_value(name, field.contents(), kind)

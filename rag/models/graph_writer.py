"""An ONNX graph being written: nodes in memory, weights straight to a file beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

GRAPH = "model.onnx"
WEIGHTS = "weights.bin"

MICROSOFT = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_ALIGNMENT = 4096
_INLINE_BYTES = 1024
_OPSET = 18
_IR_VERSION = 9


class GraphWriter:
    """Collects nodes and weights; `save` writes the graph. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._weights = (folder / WEIGHTS).open("wb")
        self._nodes: list[Any] = []
        self._tensors: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def __enter__(self) -> GraphWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._weights.close()

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        """Declare an input; a dimension given as text is free."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> None:
        """Declare an output."""
        self._outputs.append(_value_info(name, dtype, shape))

    def weight(self, name: str, array: npt.NDArray[Any]) -> str:
        """Store a constant under `name`, once; returns the name."""
        if name not in self._tensors:
            self._tensors[name] = self._stored(name, array)
        return name

    def reshaped(self, name: str, stored: str, shape: Sequence[int]) -> str:
        """The bytes of the weight `stored` under another name and shape, without a copy."""
        import onnx

        tensor = onnx.TensorProto()
        tensor.CopyFrom(self._tensors[stored])
        tensor.name = name
        del tensor.dims[:]
        tensor.dims.extend(shape)
        self._tensors[name] = tensor
        return name

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        *,
        more: Sequence[str] = (),
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node; `more` are its outputs after the first. Returns the first output."""
        import onnx

        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        for key, value in attributes.items():
            if isinstance(value, np.ndarray):
                attributes[key] = onnx.numpy_helper.from_array(value)
        self._nodes.append(
            onnx.helper.make_node(
                operator, inputs, [output, *more], name=output, domain=domain, **attributes
            )
        )
        return output

    def save(self, name: str) -> None:
        """Write graph and weights and flush them to disk."""
        import onnx

        graph = onnx.helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._tensors.values())
        )
        opsets = [onnx.helper.make_opsetid("", _OPSET), onnx.helper.make_opsetid(MICROSOFT, 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        (self._folder / GRAPH).write_bytes(model.SerializeToString())
        self._weights.flush()
        os.fsync(self._weights.fileno())

    def _stored(self, name: str, array: npt.NDArray[Any]) -> Any:
        import onnx

        array = np.ascontiguousarray(array)
        tensor = onnx.TensorProto(
            name=name,
            dims=array.shape,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
        )
        if array.nbytes < _INLINE_BYTES:
            tensor.raw_data = array.tobytes()
            return tensor
        offset = self._weights.seek(-self._weights.tell() % _ALIGNMENT, os.SEEK_CUR)
        self._weights.write(array.data)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def _value_info(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> Any:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, shape)

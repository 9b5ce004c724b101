"""Thirty-two float32 at a time measured and rounded to bytes, handed to LLVM as vectors.

numba's own loops over so few numbers take three times as long: see `rag.models.byte_attention`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from rag.models.vector_code import FLOAT, FLOATS, SUMS, WIDE, WORD, at_address, spread

WIDTH = 8
"""Of a vector; a group has four."""

_FAST = ("fast",)


@intrinsic  # type: ignore[untyped-decorator]
def bounds_of_group(typing: Any, start: Any) -> Any:
    """The least and the largest of the group at an address."""
    del typing, start

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        parts = _load(builder, values[0])
        least = _reduce(builder, "fmin", _fold(builder, "minnum", parts))
        most = _reduce(builder, "fmax", _fold(builder, "maxnum", parts))
        return context.make_tuple(builder, signature.return_type, [least, most])

    return types.containers.UniTuple(types.float32, 2)(types.intp), write


@intrinsic  # type: ignore[untyped-decorator]
def sizes_of_group(typing: Any, start: Any) -> Any:
    """Of the group at an address the largest size, and twice the most that one sign adds up to.

    The latter of the first two of every four numbers or of the last two, whichever is more.
    """
    del typing, start

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        parts = _load(builder, values[0])
        sizes = [_call(builder, "llvm.fabs.v8f32", FLOATS, [part]) for part in parts]
        largest = _reduce(builder, "fmax", _fold(builder, "maxnum", sizes))
        sums, lengths = _sum(builder, parts), _sum(builder, sizes)
        halves = [_half(builder, sums, lengths, half) for half in range(2)]
        most = _call(builder, "llvm.maxnum.f32", FLOAT, halves)
        return context.make_tuple(builder, signature.return_type, [largest, most])

    return types.containers.UniTuple(types.float32, 2)(types.intp), write


@intrinsic  # type: ignore[untyped-decorator]
def round_group(typing: Any, start: Any, low: Any, inverse: Any, out: Any) -> Any:
    """Write (x - low) · inverse of the group at `start`, rounded, as bytes at `out`; their sum."""
    del typing, start, low, inverse, out

    def write(_: Any, builder: Any, __: Any, values: Any) -> Any:
        start, low, inverse, out = values
        shift, factor = (spread(builder, value, FLOATS) for value in (low, inverse))
        rounded = [
            _call(
                builder,
                "llvm.x86.avx.cvt.ps2dq.256",
                SUMS,
                [builder.fmul(builder.fsub(part, shift), factor)],
            )
            for part in _load(builder, start)
        ]
        pairs = [_beside(builder, *rounded[at : at + 2]) for at in (0, 2)]
        numbers = builder.trunc(_beside(builder, *pairs), ir.VectorType(ir.IntType(8), 4 * WIDTH))
        builder.store(numbers, at_address(builder, out, numbers.type), align=1)
        total = builder.add(builder.add(*rounded[:2]), builder.add(*rounded[2:]))
        summed = _call(builder, "llvm.vector.reduce.add.v8i32", WORD, [total])
        return builder.sitofp(summed, FLOAT)

    return types.float32(types.intp, types.float32, types.float32, types.intp), write


def _load(builder: Any, address: Any) -> list[Any]:
    place = at_address(builder, address, FLOATS)
    places = [builder.gep(place, [ir.Constant(WIDE, part)]) for part in range(4)]
    return [builder.load(one, align=4) for one in places]


def _call(builder: Any, name: str, kind: Any, values: list[Any]) -> Any:
    signature = ir.FunctionType(kind, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    fast = _FAST if kind in (FLOAT, FLOATS) else ()
    return builder.call(function, values, fastmath=fast)


def _fold(builder: Any, name: str, parts: list[Any]) -> Any:
    first, last = (
        _call(builder, f"llvm.{name}.v8f32", FLOATS, parts[at : at + 2]) for at in (0, 2)
    )
    return _call(builder, f"llvm.{name}.v8f32", FLOATS, [first, last])


def _reduce(builder: Any, name: str, vector: Any) -> Any:
    return _call(builder, f"llvm.vector.reduce.{name}.v8f32", FLOAT, [vector])


def _sum(builder: Any, parts: list[Any]) -> Any:
    return builder.fadd(builder.fadd(*parts[:2]), builder.fadd(*parts[2:]))


def _half(builder: Any, sums: Any, lengths: Any, half: int) -> Any:
    """What numbers of one half of every four add up to: their sizes and the size of their sum."""
    places = [2 * half, 2 * half + 1, 2 * half + 4, 2 * half + 5]

    def added(vector: Any) -> Any:
        a, b, c, d = (builder.extract_element(vector, ir.Constant(WORD, at)) for at in places)
        return builder.fadd(builder.fadd(a, b), builder.fadd(c, d))

    size = _call(builder, "llvm.fabs.f32", FLOAT, [added(sums)])
    return builder.fadd(added(lengths), size)


def _beside(builder: Any, first: Any, last: Any) -> Any:
    mask = list(range(2 * first.type.count))
    return builder.shuffle_vector(first, last, ir.Constant(ir.VectorType(WORD, len(mask)), mask))

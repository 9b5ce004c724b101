"""Pieces of machine code that numba would not write: handed to LLVM as vectors.

`tile` is the inner loop of a product in 16-bit numbers. The others are single operations that
numba spells so that LLVM cannot do eight of them at a time.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from indexes.compiled_loops import compiler

STAMPED = (
    "vector_code",
    "row_code",
    "fixed_point",
    "byte_code",
    "byte_point",
    "dense_product",
    "fixed_attention",
    "fixed_layers",
)
"""Modules whose compiled functions call each other's."""

COMPILED_AS = {"fastmath": True, "error_model": "numpy"}
"""Sums may be taken in any order, and a quotient is not checked for zero: both hinder vectors."""

compiled = compiler(*(Path(__file__).with_name(f"{name}.py") for name in STAMPED), **COMPILED_AS)

COLUMNS = 16
"""Of a tile: two vectors of eight sums."""

AHEAD = 64
"""Half-lines of weights that are fetched before their turn: 2 KiB."""

SHORT, WORD, WIDE, FLOAT = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
SHORTS, SUMS = ir.VectorType(SHORT, 16), ir.VectorType(WORD, 8)
FLOATS = ir.VectorType(FLOAT, 8)


@cache
def multiplies_shorts() -> bool:
    """Whether this processor has the instructions (AVX2)."""
    return bool(binding.get_host_cpu_features().get("avx2"))


@intrinsic  # type: ignore[untyped-decorator]
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of two float32."""
    del typing, a, b

    def write(_: Any, builder: Any, __: Any, values: Any) -> Any:
        kind = ir.FunctionType(FLOAT, [FLOAT, FLOAT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.maxnum.f32")
        return builder.call(function, values, fastmath=("fast",))

    return types.float32(types.float32, types.float32), write


@intrinsic  # type: ignore[untyped-decorator]
def power_of_two(typing: Any, exponent: Any) -> Any:
    """2 to a whole number from -126 to 127, all float32."""
    del typing, exponent

    def write(_: Any, builder: Any, __: Any, values: Any) -> Any:
        biased = builder.add(builder.fptosi(values[0], WORD), ir.Constant(WORD, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(WORD, 23)), FLOAT)

    return types.float32(types.float32), write


@intrinsic  # type: ignore[untyped-decorator]
def address(typing: Any, array: Any) -> Any:
    """Where an array's first number lies."""
    del typing

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, values[0])
        return builder.ptrtoint(made.data, WIDE)

    return types.intp(array), write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def tile(
    typing: Any,
    height: Any,
    rows: Any,
    stride: Any,
    panel: Any,
    n_pairs: Any,
    row_scales: Any,
    scales: Any,
    bias: Any,
    out: Any,
    out_stride: Any,
) -> Any:
    """Products of `height` (a literal) rows of 16-bit numbers with a panel's `COLUMNS` columns.

    All but the height are addresses, and distances of rows in bytes. Row r and column c get float32
    sum · row_scales[r] · scales[c] + bias[c]. `n_pairs` is half of a row's numbers, at least 1.
    """
    del typing, rows, stride, panel, n_pairs, row_scales, scales, bias, out, out_stride
    n_rows = height.literal_value
    signature = types.void(height, *[types.intp] * 9)

    def write(_: Any, builder: Any, __: Any, values: Any) -> Any:
        sums = _sums(builder, n_rows, *values[1:5])
        _scaled(builder, sums, *values[5:])
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return signature, write


def prefetch(builder: Any, place: Any) -> None:
    """Have a line of memory fetched into the first cache; a place that is not there is no error."""
    byte, flag = ir.IntType(8).as_pointer(), ir.Constant
    kind = ir.FunctionType(ir.VoidType(), [byte, WORD, WORD, WORD])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, near, data = flag(WORD, 0), flag(WORD, 3), flag(WORD, 1)
    builder.call(function, [builder.bitcast(place, byte), read, near, data])


def at_address(builder: Any, address: Any, kind: Any) -> Any:
    """An address as a pointer to a kind of thing."""
    return builder.inttoptr(address, kind.as_pointer())


def _number(value: int) -> Any:
    return ir.Constant(WIDE, value)


def spread(builder: Any, value: Any, kind: Any) -> Any:
    """A value in all eight places of a vector."""
    undefined = ir.Constant(kind, ir.Undefined)
    lone = builder.insert_element(undefined, value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(lone, undefined, ir.Constant(SUMS, [0] * 8))


def _sums(
    builder: Any, n_rows: int, rows: Any, stride: Any, panel: Any, n_pairs: Any
) -> list[list[Any]]:
    """The loop over pairs: two vectors of sums a row."""
    kind = ir.FunctionType(SUMS, [SHORTS, SHORTS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
    starts = [
        at_address(builder, builder.add(rows, builder.mul(stride, _number(row))), WORD)
        for row in range(n_rows)
    ]
    weights = at_address(builder, panel, SHORTS)
    before = builder.block
    loop, done = builder.append_basic_block("pairs"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    pair = builder.phi(WIDE)
    pair.add_incoming(_number(0), before)
    totals = [[builder.phi(SUMS) for _ in range(2)] for _ in range(n_rows)]
    first = builder.mul(pair, _number(2))
    places = [builder.gep(weights, [builder.add(first, _number(half))]) for half in range(2)]
    halves = [builder.load(place, align=2) for place in places]
    prefetch(builder, builder.gep(weights, [builder.add(first, _number(AHEAD))]))
    sums = []
    for start, total in zip(starts, totals, strict=True):
        two = builder.load(builder.gep(start, [pair]), align=2)
        repeated = builder.bitcast(spread(builder, two, SUMS), SHORTS)
        products = [builder.call(function, [repeated, half]) for half in halves]
        sums.append([builder.add(*both) for both in zip(total, products, strict=True)])
        for running, new in zip(total, sums[-1], strict=True):
            running.add_incoming(ir.Constant(SUMS, None), before)
            running.add_incoming(new, loop)
    following = builder.add(pair, _number(1))
    pair.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, n_pairs), loop, done)
    builder.position_at_end(done)
    return sums


def _scaled(
    builder: Any,
    sums: list[list[Any]],
    row_scales: Any,
    scales: Any,
    bias: Any,
    out: Any,
    out_stride: Any,
) -> None:
    """Sums → float32, scaled, with bias, to their places."""

    def vectors(address: Any) -> list[Any]:
        start = at_address(builder, address, FLOATS)
        return [builder.load(builder.gep(start, [_number(half)]), align=4) for half in range(2)]

    by_column, added = vectors(scales), vectors(bias)
    by_row = at_address(builder, row_scales, FLOAT)
    for row, pair in enumerate(sums):
        scale = builder.load(builder.gep(by_row, [_number(row)]), align=4)
        factor = spread(builder, scale, FLOATS)
        place = at_address(builder, builder.add(out, builder.mul(out_stride, _number(row))), FLOATS)
        for half, total in enumerate(pair):
            scaled = builder.fmul(builder.sitofp(total, FLOATS), factor)
            # The product and the sum may become one instruction, and nothing else: a row gets the
            # same to the bit whatever the height of its tile.
            scaled = builder.fmul(scaled, by_column[half], flags=("contract",))
            found = builder.fadd(scaled, added[half], flags=("contract",))
            builder.store(found, builder.gep(place, [_number(half)]), align=4)

"""The inner loop of a product in bytes, handed to LLVM as vectors. See `rag.models.byte_point`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from rag.models.vector_code import (
    FLOAT,
    FLOATS,
    SHORTS,
    SUMS,
    WIDE,
    WORD,
    at_address,
    prefetch,
    spread,
)

STEPS = 8
"""Products of pairs that are added up in 16 bits before they are widened."""

STEP_BYTES = 4
"""Of a row in one step: two pairs for each of eight columns."""

GROUP = STEPS * STEP_BYTES
"""A row's bytes are a multiple of this."""

AHEAD = 64
"""Vectors of weights that are fetched before their turn: 2 KiB."""

BYTES = ir.VectorType(ir.IntType(8), 32)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def add_up(
    typing: Any, height: Any, rows: Any, stride: Any, panel: Any, n_steps: Any, sums: Any
) -> Any:
    """Add products of `height` (a literal) rows of unsigned bytes with a panel's columns to sums.

    All but the height and the number of steps (a multiple of `STEPS`, not 0) are addresses, and
    the distance of rows in bytes. At `sums` are two vectors of 32-bit sums a row.
    """
    del typing, rows, stride, panel, n_steps, sums
    n_rows = height.literal_value
    signature = types.void(height, *[types.intp] * 5)

    def write(_: Any, builder: Any, __: Any, values: Any) -> Any:
        _add_up(builder, n_rows, *values[1:])
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return signature, write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def scale_sums(
    typing: Any, height: Any, sums: Any, by_row: Any, by_column: Any, out: Any, out_stride: Any
) -> Any:
    """Write what `height` (a literal) rows' sums stand for; all others are addresses, or bytes.

    `by_row` has a scale and a low for each row, `by_column` each 16 scales, sums and biases: row r
    and column c get float32 sum · scale[r] · scale[c] + (low[r] · sum[c] + bias[c]).
    """
    del typing, sums, by_row, by_column, out, out_stride
    n_rows = height.literal_value
    signature = types.void(height, *[types.intp] * 5)

    def write(_: Any, builder: Any, __: Any, values: Any) -> Any:
        _scale(builder, n_rows, *values[1:])
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return signature, write


def _number(value: int) -> Any:
    return ir.Constant(WIDE, value)


def _add_up(
    builder: Any, n_rows: int, rows: Any, stride: Any, panel: Any, n_steps: Any, sums: Any
) -> None:
    """The loop over steps.

    The 32-bit sums are in memory because the 16-bit ones take most registers; written as one loop,
    lest LLVM unroll the inner of two and put those in memory instead.
    """
    starts = [
        at_address(builder, builder.add(rows, builder.mul(stride, _number(row))), WORD)
        for row in range(n_rows)
    ]
    weights, widened = at_address(builder, panel, BYTES), at_address(builder, sums, SUMS)
    places = [builder.gep(widened, [_number(number)]) for number in range(2 * n_rows)]
    before = builder.block
    loop, widen, done = (builder.append_basic_block(name) for name in ("step", "widen", "done"))
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(WIDE)
    totals = [builder.phi(SHORTS) for _ in places]
    new = _step(builder, starts, weights, step, totals)
    following = builder.add(step, _number(1))
    left = builder.and_(following, _number(STEPS - 1))
    builder.cbranch(builder.icmp_signed("!=", left, _number(0)), loop, widen)
    builder.position_at_end(widen)
    kind = ir.FunctionType(SUMS, [SHORTS, SHORTS])
    add_pairs = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
    ones = ir.Constant(SHORTS, [1] * 16)
    for place, part in zip(places, new, strict=True):
        pairs = builder.call(add_pairs, [part, ones])
        builder.store(builder.add(builder.load(place, align=4), pairs), place, align=4)
    builder.cbranch(builder.icmp_signed("<", following, n_steps), loop, done)
    step.add_incoming(_number(0), before)
    for source in (loop, widen):
        step.add_incoming(following, source)
    for total, added in zip(totals, new, strict=True):
        total.add_incoming(added, loop)
        for source in (before, widen):
            total.add_incoming(ir.Constant(SHORTS, None), source)
    builder.position_at_end(done)


def _step(builder: Any, starts: list[Any], weights: Any, step: Any, totals: list[Any]) -> list[Any]:
    """One step's products, added to two vectors of 16-bit sums a row."""
    kind = ir.FunctionType(SHORTS, [BYTES, BYTES])
    multiply = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.ub.sw")
    first = builder.mul(step, _number(2))
    places = [builder.gep(weights, [builder.add(first, _number(half))]) for half in range(2)]
    halves = [builder.load(place, align=1) for place in places]
    prefetch(builder, builder.gep(weights, [builder.add(first, _number(AHEAD))]))
    found = []
    for row, start in enumerate(starts):
        four = builder.load(builder.gep(start, [step]), align=1)
        repeated = builder.bitcast(spread(builder, four, SUMS), BYTES)
        for half, total in zip(halves, totals[2 * row : 2 * row + 2], strict=True):
            found.append(builder.add(total, builder.call(multiply, [repeated, half])))
    return found


def _scale(
    builder: Any, n_rows: int, sums: Any, by_row: Any, by_column: Any, out: Any, out_stride: Any
) -> None:
    """Sums → float32, scaled, with what a row's low and the bias add, to their places."""
    columns = at_address(builder, by_column, FLOATS)
    scales, weight_sums, biases = (
        [
            builder.load(builder.gep(columns, [_number(2 * kind + half)]), align=4)
            for half in range(2)
        ]
        for kind in range(3)
    )
    rows, totals = at_address(builder, by_row, FLOAT), at_address(builder, sums, SUMS)
    for row in range(n_rows):
        scale, low = (
            spread(
                builder,
                builder.load(builder.gep(rows, [_number(2 * row + part)]), align=4),
                FLOATS,
            )
            for part in range(2)
        )
        place = at_address(builder, builder.add(out, builder.mul(out_stride, _number(row))), FLOATS)
        for half in range(2):
            total = builder.load(builder.gep(totals, [_number(2 * row + half)]), align=4)
            # Each product and sum may become one instruction, and nothing else: a row gets the
            # same to the bit whatever the height of its tile.
            added = builder.fmul(low, weight_sums[half], flags=("contract",))
            added = builder.fadd(added, biases[half], flags=("contract",))
            scaled = builder.fmul(builder.sitofp(total, FLOATS), scale)
            scaled = builder.fmul(scaled, scales[half], flags=("contract",))
            found = builder.fadd(scaled, added, flags=("contract",))
            builder.store(found, builder.gep(place, [_number(half)]), align=4)

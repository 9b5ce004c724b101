"""The innermost loops of a decoder as LLVM code: products of whole numbers, attention, a barrier.

Numba's own compiler keeps no block of sums in registers across a loop, so these few loops are
written instruction by instruction, in vectors of 16 lanes that LLVM fits to whatever registers the
processor has. Nothing is specific to one: products of 16-bit pairs become `vpmaddwd` or `vpdpwssd`
where there is such an instruction. Each loop is made for a number of rows, tiles or heads, and
what it computes for one of them does not depend on that number, to the last bit: sums of whole
numbers do not round, and sums of fractions are taken in the same order.

All arguments are addresses and counts of bytes or items, 64 bits each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from indexes.compiled_loops import compiler

SOURCES = ("decoder_code", "decoder_arrays", "decoder_rows", "decoder_attention", "decoder_kernels")
"""Modules whose compiled functions hold code of each other."""

compiled = compiler(*(Path(__file__).with_name(f"{name}.py") for name in SOURCES))

LANES = 16
"""Outputs of a tile of weights, positions of a block of keys, channels of a block of values."""

_BYTE, _SHORT, _INT, _LONG, _FLOAT = (
    *(ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)),
    ir.FloatType(),
)
_HALF = ir.HalfType()
_INTS, _FLOATS = ir.VectorType(_INT, LANES), ir.VectorType(_FLOAT, LANES)
_HALVES = ir.VectorType(_HALF, LANES)
_LANE_BYTES, _HALF_BYTES = 4 * LANES, 2 * LANES


def integer_product(n_rows: int, n_tiles: int) -> Any:
    """`n_rows` of 16-bit codes times `n_tiles` of 8-bit weights, scaled to float32.

    `out[r, t, o] = sum_i codes[r, i] * weights[t, o, i] * scales[t, o] * steps[r] + bias[t, o]`,
    where the sum is of whole numbers and must fit into 32 bits. A tile holds pairs of inputs,
    `[n_pairs, 16 outputs, 2]`.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(
        typing: Any,
        codes: Any,
        row_bytes: Any,
        weights: Any,
        n_pairs: Any,
        scales: Any,
        steps: Any,
        bias: Any,
        out: Any,
        out_bytes: Any,
    ) -> Any:
        def write(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
            codes, row_bytes, weights, n_pairs, scales, steps, bias, out, out_bytes = arguments
            tile_bytes = at.mul(n_pairs, _long(2 * LANES))
            sums = _zeros(at, _INTS, n_rows, n_tiles)
            rows = [at.add(codes, at.mul(row_bytes, _long(row))) for row in range(n_rows)]
            tiles = [at.add(weights, at.mul(tile_bytes, _long(tile))) for tile in range(n_tiles)]
            with cgutils.for_range(at, n_pairs) as loop:
                place = at.mul(loop.index, _long(2 * LANES))
                read = [_load(at, at.add(t, place), ir.VectorType(_BYTE, 2 * LANES)) for t in tiles]
                weight = [at.sext(one, ir.VectorType(_INT, 2 * LANES)) for one in read]
                for row in range(n_rows):
                    pair = _load(at, at.add(rows[row], at.mul(loop.index, _long(4))), _INT)
                    spread = at.bitcast(_splat(at, pair), ir.VectorType(_SHORT, 2 * LANES))
                    code = at.sext(spread, ir.VectorType(_INT, 2 * LANES))
                    for tile in range(n_tiles):
                        found = _sum_pairs(at, at.mul(code, weight[tile]))
                        at.store(at.add(at.load(sums[row][tile]), found), sums[row][tile])
            for row in range(n_rows):
                step = _splat(at, _load(at, at.add(steps, _long(4 * row)), _FLOAT))
                target = at.add(out, at.mul(out_bytes, _long(row)))
                for tile in range(n_tiles):
                    lane = _long(_LANE_BYTES * tile)
                    total = at.sitofp(at.load(sums[row][tile]), _FLOATS)
                    scaled = at.fmul(at.fmul(total, _load(at, at.add(scales, lane), _FLOATS)), step)
                    shifted = at.fadd(scaled, _load(at, at.add(bias, lane), _FLOATS))
                    _store(at, shifted, at.add(target, lane))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 9), write

    return product


def attention_scores(n_heads: int) -> Any:
    """Products of `n_heads` queries with the keys of `n_blocks` blocks of 16 positions.

    `scores[h, p] = sum_d queries[h, d] * keys[block(p), d, lane(p)]`; queries lie one after the
    other, rows of scores `score_bytes` apart. Keys have 16 bits each, as fractions.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def scores_of(
        typing: Any,
        queries: Any,
        head_size: Any,
        keys: Any,
        n_blocks: Any,
        scores: Any,
        score_bytes: Any,
    ) -> Any:
        def write(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
            queries, head_size, keys, n_blocks, scores, score_bytes = arguments
            block_bytes = at.mul(head_size, _long(_HALF_BYTES))
            sums = _zeros(at, _FLOATS, n_heads, 1)
            with cgutils.for_range(at, n_blocks) as blocks:
                block = at.add(keys, at.mul(blocks.index, block_bytes))
                _clear(at, sums)
                with cgutils.for_range(at, head_size) as channels:
                    place = at.add(block, at.mul(channels.index, _long(_HALF_BYTES)))
                    key = at.fpext(_load(at, place, _HALVES), _FLOATS)
                    place = at.mul(channels.index, _long(4))
                    for head in range(n_heads):
                        start = at.mul(head_size, _long(4 * head))
                        one = _load(at, at.add(at.add(queries, start), place), _FLOAT)
                        _add_product(at, _splat(at, one), key, sums[head][0])
                for head in range(n_heads):
                    row = at.add(scores, at.mul(score_bytes, _long(head)))
                    place = at.mul(blocks.index, _long(_LANE_BYTES))
                    _store(at, at.load(sums[head][0]), at.add(row, place))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), write

    return scores_of


def attention_mixture(n_heads: int) -> Any:
    """Sums of values weighted for each of `n_heads`, over `n_positions`, one block of 16 channels.

    `out[h, c] = sum_p weights[h, p] * values[p, c] * shares[h]`; rows of weights lie
    `weight_bytes` apart, rows of `out` `out_bytes`. Values have 16 bits each, as fractions.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def mixture_of(
        typing: Any,
        weights: Any,
        weight_bytes: Any,
        values: Any,
        n_positions: Any,
        shares: Any,
        out: Any,
        out_bytes: Any,
    ) -> Any:
        def write(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
            weights, weight_bytes, values, n_positions, shares, out, out_bytes = arguments
            sums = _zeros(at, _FLOATS, n_heads, 1)
            rows = [at.add(weights, at.mul(weight_bytes, _long(head))) for head in range(n_heads)]
            with cgutils.for_range(at, n_positions) as positions:
                place = at.add(values, at.mul(positions.index, _long(_HALF_BYTES)))
                value = at.fpext(_load(at, place, _HALVES), _FLOATS)
                place = at.mul(positions.index, _long(4))
                for head in range(n_heads):
                    one = _load(at, at.add(rows[head], place), _FLOAT)
                    _add_product(at, _splat(at, one), value, sums[head][0])
            for head in range(n_heads):
                share = _splat(at, _load(at, at.add(shares, _long(4 * head)), _FLOAT))
                target = at.add(out, at.mul(out_bytes, _long(head)))
                _store(at, at.fmul(at.load(sums[head][0]), share), target)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), write

    return mixture_of


@intrinsic  # type: ignore[untyped-decorator]
def keep_half(typing: Any, address: Any, value: Any) -> Any:
    """Store a float32 at `address` as a fraction of 16 bits."""

    def write(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
        address, value = arguments
        at.store(at.fptrunc(value, _HALF), at.inttoptr(address, ir.PointerType(_HALF)))
        return context.get_dummy_value()

    return types.void(types.intp, types.float32), write


@intrinsic  # type: ignore[untyped-decorator]
def add_atomically(typing: Any, address: Any, amount: Any) -> Any:
    """Add to the 64-bit number at `address`; what it was before."""

    def write(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
        address, amount = arguments
        pointer = at.inttoptr(address, ir.PointerType(_LONG))
        return at.atomic_rmw("add", pointer, amount, "seq_cst")

    return types.intp(types.intp, types.intp), write


def _zeros(at: Any, kind: Any, n_rows: int, n_columns: int) -> list[list[Any]]:
    """Sums that LLVM will keep in registers."""
    sums = [[cgutils.alloca_once(at, kind) for _ in range(n_columns)] for _ in range(n_rows)]
    _clear(at, sums)
    return sums


def _clear(at: Any, sums: list[list[Any]]) -> None:
    for row in sums:
        for one in row:
            at.store(ir.Constant(one.type.pointee, None), one)


def _sum_pairs(at: Any, products: Any) -> Any:
    """`[32]` to `[16]`: each even product plus the odd one after it."""
    nothing = ir.Constant(products.type, ir.Undefined)
    halves = [
        at.shuffle_vector(products, nothing, ir.Constant(_INTS, list(range(first, 2 * LANES, 2))))
        for first in (0, 1)
    ]
    return at.add(*halves)


def _add_product(at: Any, x: Any, y: Any, total: Any) -> None:
    fused = cgutils.get_or_insert_function(
        at.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), "llvm.fmuladd.v16f32"
    )
    at.store(at.call(fused, [x, y, at.load(total)]), total)


def _splat(at: Any, value: Any) -> Any:
    kind = ir.VectorType(value.type, LANES)
    nothing = ir.Constant(kind, ir.Undefined)
    first = at.insert_element(nothing, value, ir.Constant(_INT, 0))
    return at.shuffle_vector(first, nothing, ir.Constant(_INTS, [0] * LANES))


def _load(at: Any, address: Any, kind: Any) -> Any:
    return at.load(at.inttoptr(address, ir.PointerType(kind)), align=1)


def _store(at: Any, value: Any, address: Any) -> None:
    at.store(value, at.inttoptr(address, ir.PointerType(value.type)), align=1)


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)

"""A decoder's forward pass over rows of tokens, compiled: integer products, float32 for the rest.

Several threads call `run` at once with the same arguments but their number; they share the work of
every stage and wait for each other after it. A row is a token of some sequence. What is computed
for a row depends on its own sequence alone and is computed in one way only, so logits are the same
to the last bit whatever is fed with it, before it or in how many pieces.

Activations are rounded to as many steps of 16 bits as their sums of products may have in 32 (about
11,000 at 1,536 inputs), weights to 8 bits by output channel. Arrays are C-contiguous; sizes are
those of `rag.models.decoder_weights`, where the order of codes and numbers is explained too.
"""

from __future__ import annotations

from numba import types

from rag.models.decoder_arrays import (
    ATTENTION_NORM,
    BIAS,
    CODES,
    DOWN,
    FEED_FORWARD_NORM,
    GATE_UP,
    HEAD,
    LAST_NORM,
    OUT,
    QKV,
    SCALES,
    UNIT,
    Floats,
    Longs,
    Rows,
    Sizes,
    Weights,
    Work,
)
from rag.models.decoder_attention import attend, turn_and_keep
from rag.models.decoder_code import LANES, add_atomically, compiled, integer_product
from rag.models.decoder_rows import add, embed, gate, norm_and_round, round_row

_SPINS = 4000
"""Looks at the others' progress before the processor is offered to whoever needs it."""

_yield = types.ExternalFunction("sched_yield", types.int32())
_product_1_4, _product_1_2 = integer_product(1, 4), integer_product(1, 2)
_product_2_2, _product_3_2 = integer_product(2, 2), integer_product(3, 2)
_product_6_1 = integer_product(6, 1)


@compiled
def run(
    thread: int, n_threads: int, sizes: Sizes, weights: Weights, work: Work, rows: Rows, out: Floats
) -> None:
    """One thread's share of a forward pass; logits of the wanted rows go to `out`."""
    n, last = len(rows.token_ids), sizes.n_layers - 1
    for row in range(thread, n, n_threads):
        embed(weights, rows.token_ids[row], work.residual[row])
    for layer in range(last):
        _mix_tokens(thread, n_threads, sizes, weights, layer, work, rows)
        for row in range(thread, n, n_threads):
            round_row(work, row, work.narrow[row][: sizes.n_heads * sizes.head_size])
        _feed_forward(thread, n_threads, sizes, weights, layer, work, work.residual, n)
    _mix_tokens(thread, n_threads, sizes, weights, last, work, rows)
    # What follows looks at one token alone: the rows that nobody asked for end here.
    n = len(rows.wanted)
    for row in range(thread, n, n_threads):
        work.kept[row] = work.residual[rows.wanted[row]]
        attended = work.narrow[rows.wanted[row]]
        round_row(work, row, attended[: sizes.n_heads * sizes.head_size])
    _feed_forward(thread, n_threads, sizes, weights, last, work, work.kept, n)
    places = weights.places[sizes.n_layers]
    gamma = weights.numbers[places[LAST_NORM] :][: sizes.hidden]
    for row in range(thread, n, n_threads):
        norm_and_round(work, work.kept, row, gamma, sizes.norm_epsilon)
    _wait(work.sync, n_threads)
    _multiply(
        thread, n_threads, weights, places[HEAD:], work, n, sizes.hidden, sizes.vocabulary, out
    )
    _wait(work.sync, n_threads)


@compiled
def _mix_tokens(
    thread: int, n_threads: int, sizes: Sizes, weights: Weights, layer: int, work: Work, rows: Rows
) -> None:
    """A layer's attention: what each row's heads found, in its first columns of `work.narrow`."""
    n, places = len(rows.token_ids), weights.places[layer]
    gamma = weights.numbers[places[ATTENTION_NORM] :][: sizes.hidden]
    for row in range(thread, n, n_threads):
        norm_and_round(work, work.residual, row, gamma, sizes.norm_epsilon)
    _wait(work.sync, n_threads)
    n_qkv = (sizes.n_heads + 2 * sizes.n_kv_heads) * sizes.head_size
    _multiply(thread, n_threads, weights, places[QKV:], work, n, sizes.hidden, n_qkv, work.wide)
    _wait(work.sync, n_threads)
    for row in range(thread, n, n_threads):
        turn_and_keep(sizes, weights, layer, rows, row, work.wide[row])
    _wait(work.sync, n_threads)
    attend(thread, n_threads, sizes, weights.windows[layer], layer, rows, work)
    _wait(work.sync, n_threads)


@compiled
def _feed_forward(
    thread: int,
    n_threads: int,
    sizes: Sizes,
    weights: Weights,
    layer: int,
    work: Work,
    residual: Floats,
    n: int,
) -> None:
    """The rest of a layer, for `n` rows of `residual` whose attention was rounded."""
    places, attended = weights.places[layer], sizes.n_heads * sizes.head_size
    _wait(work.sync, n_threads)
    _multiply(thread, n_threads, weights, places[OUT:], work, n, attended, sizes.hidden, work.wide)
    _wait(work.sync, n_threads)
    gamma = weights.numbers[places[FEED_FORWARD_NORM] :][: sizes.hidden]
    for row in range(thread, n, n_threads):
        add(residual[row], work.wide[row])
        norm_and_round(work, residual, row, gamma, sizes.norm_epsilon)
    _wait(work.sync, n_threads)
    n_out = 2 * sizes.inner
    _multiply(thread, n_threads, weights, places[GATE_UP:], work, n, sizes.hidden, n_out, work.wide)
    first, end = _share(thread, n_threads, n_out)
    for row in range(n):
        gate(work.wide[row], work.narrow[row], first // UNIT, end // UNIT)
    _wait(work.sync, n_threads)
    for row in range(thread, n, n_threads):
        round_row(work, row, work.narrow[row][: sizes.inner])
    _wait(work.sync, n_threads)
    _multiply(
        thread, n_threads, weights, places[DOWN:], work, n, sizes.inner, sizes.hidden, work.wide
    )
    _wait(work.sync, n_threads)
    for row in range(thread, n, n_threads):
        add(residual[row], work.wide[row])


@compiled
def _wait(sync: Longs, n_threads: int) -> None:
    """Go on when all threads are here."""
    if n_threads == 1:
        return
    arrivals, stage = sync.ctypes.data, sync.ctypes.data + 8
    before = add_atomically(stage, 0)
    if add_atomically(arrivals, 1) == n_threads - 1:
        add_atomically(arrivals, -n_threads)
        add_atomically(stage, 1)
        return
    spins = 0
    while add_atomically(stage, 0) == before:
        spins += 1
        if spins >= _SPINS:
            _yield()


@compiled
def _share(thread: int, n_threads: int, n_out: int) -> tuple[int, int]:
    """Outputs that are this thread's: from the first to before the last."""
    width = UNIT * LANES
    n_units = -(-n_out // width)
    return width * (n_units * thread // n_threads), width * (n_units * (thread + 1) // n_threads)


@compiled
def _multiply(
    thread: int,
    n_threads: int,
    weights: Weights,
    places: Longs,
    work: Work,
    n: int,
    n_in: int,
    n_out: int,
    out: Floats,
) -> None:
    """A thread's outputs of a linear layer for the first `n` rows of codes."""
    codes, row_bytes, n_pairs = work.levels.ctypes.data, 2 * work.levels.shape[1], n_in // 2
    numbers, steps = weights.numbers.ctypes.data, work.steps.ctypes.data
    matrix = weights.codes.ctypes.data + places[CODES]
    scales, bias = numbers + 4 * places[SCALES], numbers + 4 * places[BIAS]
    target, out_bytes = out.ctypes.data, 4 * out.shape[1]
    place, last = _share(thread, n_threads, n_out)
    while place < last:
        tile, s, b = matrix + place * n_in, scales + 4 * place, bias + 4 * place
        o = target + 4 * place
        if n == 1 and place + 4 * LANES <= last:
            _product_1_4(codes, row_bytes, tile, n_pairs, s, steps, b, o, out_bytes)
            place += 4 * LANES
            continue
        row = 0
        while row < n:
            x, step, y = codes + row * row_bytes, steps + 4 * row, o + row * out_bytes
            if n - row >= 6:
                _product_6_1(x, row_bytes, tile, n_pairs, s, step, b, y, out_bytes)
                more = 4 * LANES
                tile_2 = tile + LANES * n_in
                _product_6_1(
                    x, row_bytes, tile_2, n_pairs, s + more, step, b + more, y + more, out_bytes
                )
                row += 6
            elif n - row >= 3:
                _product_3_2(x, row_bytes, tile, n_pairs, s, step, b, y, out_bytes)
                row += 3
            elif n - row == 2:
                _product_2_2(x, row_bytes, tile, n_pairs, s, step, b, y, out_bytes)
                row += 2
            else:
                _product_1_2(x, row_bytes, tile, n_pairs, s, step, b, y, out_bytes)
                row += 1
        place += UNIT * LANES

"""A decoder's forward pass over rows of tokens, compiled: integer products, float32 for the rest.

Several threads may call `run` at once with the same arguments. Each stage of a pass is cut into
pieces that whoever comes takes, and all leave it when every piece is done: a thread whose core is
busy with something else is missed, but hardly waited for. A row is a token of some sequence. What
is computed for a row depends on its own sequence alone and is computed in one way only, so logits
are the same to the last bit whatever is fed with it, before it or in how many pieces.

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
from rag.models.decoder_attention import attend, room_for_scores, turn_and_keep
from rag.models.decoder_code import LANES, add_atomically, compiled, integer_product
from rag.models.decoder_rows import add, embed, gate, norm_and_round, round_row

_STAGES_OF_A_LAYER = 10
_PIECES_OF_A_THREAD = 4

_SPINS = 4000
"""Looks at the others' progress before the processor is offered to whoever needs it."""

_yield = types.ExternalFunction("sched_yield", types.int32())
_product_1_4, _product_1_2 = integer_product(1, 4), integer_product(1, 2)
_product_2_2, _product_3_2 = integer_product(2, 2), integer_product(3, 2)
_product_6_1 = integer_product(6, 1)


@compiled
def run(
    n_threads: int,
    sizes: Sizes,
    weights: Weights,
    work: Work,
    rows: Rows,
    progress: Longs,
    out: Floats,
) -> None:
    """Take part in a forward pass until it is done; logits of the wanted rows go to `out`.

    `progress` is `[n_stages(n_layers), 2]`, zeros at the beginning of a pass.
    """
    n, last, stage = len(rows.token_ids), sizes.n_layers - 1, 0
    attended = sizes.n_heads * sizes.head_size
    for layer in range(last):
        stage = _mix_tokens(n_threads, sizes, weights, layer, work, rows, progress, stage)
        row = _claim(progress, stage)
        while row < n:
            round_row(work, row, work.narrow[row][:attended])
            row = _claim_next(progress, stage)
        stage = _leave(progress, stage, n)
        stage = _feed_forward(
            n_threads, sizes, weights, layer, work, work.residual, n, progress, stage
        )
    stage = _mix_tokens(n_threads, sizes, weights, last, work, rows, progress, stage)
    # What follows looks at one token alone: the rows that nobody asked for end here.
    n = len(rows.wanted)
    row = _claim(progress, stage)
    while row < n:
        work.kept[row] = work.residual[rows.wanted[row]]
        round_row(work, row, work.narrow[rows.wanted[row]][:attended])
        row = _claim_next(progress, stage)
    stage = _leave(progress, stage, n)
    stage = _feed_forward(n_threads, sizes, weights, last, work, work.kept, n, progress, stage)
    places = weights.places[sizes.n_layers]
    gamma = weights.numbers[places[LAST_NORM] :][: sizes.hidden]
    row = _claim(progress, stage)
    while row < n:
        add(work.kept[row], work.wide[row])
        norm_and_round(work, work.kept, row, gamma, sizes.norm_epsilon)
        row = _claim_next(progress, stage)
    stage = _leave(progress, stage, n)
    n_pieces = _pieces(n_threads, sizes.vocabulary)
    piece = _claim(progress, stage)
    while piece < n_pieces:
        first, end = _outputs(piece, n_pieces, sizes.vocabulary)
        _multiply(first, end, weights, places[HEAD:], work, n, sizes.hidden, out)
        piece = _claim_next(progress, stage)
    _leave(progress, stage, n_pieces)


def n_stages(n_layers: int) -> int:
    """Stages of a pass."""
    return _STAGES_OF_A_LAYER * n_layers + 2


@compiled
def _mix_tokens(
    n_threads: int,
    sizes: Sizes,
    weights: Weights,
    layer: int,
    work: Work,
    rows: Rows,
    progress: Longs,
    stage: int,
) -> int:
    """A layer's attention: what each row's heads found, in its first columns of `work.narrow`."""
    n, places = len(rows.token_ids), weights.places[layer]
    gamma = weights.numbers[places[ATTENTION_NORM] :][: sizes.hidden]
    row = _claim(progress, stage)
    while row < n:
        if layer == 0:
            embed(weights, rows.token_ids[row], work.residual[row])
        else:
            add(work.residual[row], work.wide[row])
        norm_and_round(work, work.residual, row, gamma, sizes.norm_epsilon)
        row = _claim_next(progress, stage)
    stage = _leave(progress, stage, n)
    n_qkv = (sizes.n_heads + 2 * sizes.n_kv_heads) * sizes.head_size
    n_pieces = _pieces(n_threads, n_qkv)
    piece = _claim(progress, stage)
    while piece < n_pieces:
        first, end = _outputs(piece, n_pieces, n_qkv)
        _multiply(first, end, weights, places[QKV:], work, n, sizes.hidden, work.wide)
        piece = _claim_next(progress, stage)
    stage = _leave(progress, stage, n_pieces)
    row = _claim(progress, stage)
    while row < n:
        turn_and_keep(sizes, weights, layer, rows, row, work.wide[row])
        row = _claim_next(progress, stage)
    stage = _leave(progress, stage, n)
    scores, shares = room_for_scores(rows)
    item = _claim(progress, stage)
    while item < n * sizes.n_kv_heads:
        attend(sizes, weights.windows[layer], layer, rows, work, item, scores, shares)
        item = _claim_next(progress, stage)
    return _leave(progress, stage, n * sizes.n_kv_heads)


@compiled
def _feed_forward(
    n_threads: int,
    sizes: Sizes,
    weights: Weights,
    layer: int,
    work: Work,
    residual: Floats,
    n: int,
    progress: Longs,
    stage: int,
) -> int:
    """The rest of a layer, for `n` rows whose attention was rounded; `work.wide` is to be added."""
    places, attended = weights.places[layer], sizes.n_heads * sizes.head_size
    n_pieces = _pieces(n_threads, sizes.hidden)
    piece = _claim(progress, stage)
    while piece < n_pieces:
        first, end = _outputs(piece, n_pieces, sizes.hidden)
        _multiply(first, end, weights, places[OUT:], work, n, attended, work.wide)
        piece = _claim_next(progress, stage)
    stage = _leave(progress, stage, n_pieces)
    gamma = weights.numbers[places[FEED_FORWARD_NORM] :][: sizes.hidden]
    row = _claim(progress, stage)
    while row < n:
        add(residual[row], work.wide[row])
        norm_and_round(work, residual, row, gamma, sizes.norm_epsilon)
        row = _claim_next(progress, stage)
    stage = _leave(progress, stage, n)
    n_both = _pieces(n_threads, UNIT * sizes.inner)
    piece = _claim(progress, stage)
    while piece < n_both:
        first, end = _outputs(piece, n_both, UNIT * sizes.inner)
        _multiply(first, end, weights, places[GATE_UP:], work, n, sizes.hidden, work.wide)
        for row in range(n):
            gate(work.wide[row], work.narrow[row], first // UNIT, end // UNIT)
        piece = _claim_next(progress, stage)
    stage = _leave(progress, stage, n_both)
    row = _claim(progress, stage)
    while row < n:
        round_row(work, row, work.narrow[row][: sizes.inner])
        row = _claim_next(progress, stage)
    stage = _leave(progress, stage, n)
    piece = _claim(progress, stage)
    while piece < n_pieces:
        first, end = _outputs(piece, n_pieces, sizes.hidden)
        _multiply(first, end, weights, places[DOWN:], work, n, sizes.inner, work.wide)
        piece = _claim_next(progress, stage)
    return _leave(progress, stage, n_pieces)


@compiled
def _claim(progress: Longs, stage: int) -> int:
    """The number of a piece of this stage that nobody has taken; one too many when none is left."""
    return add_atomically(progress.ctypes.data + 16 * stage, 1)  # type: ignore[no-any-return]


@compiled
def _claim_next(progress: Longs, stage: int) -> int:
    """As `_claim`, once the piece before is done."""
    add_atomically(progress.ctypes.data + 16 * stage + 8, 1)
    return add_atomically(progress.ctypes.data + 16 * stage, 1)  # type: ignore[no-any-return]


@compiled
def _leave(progress: Longs, stage: int, n_pieces: int) -> int:
    """The next stage, once all pieces of this one are done."""
    spins = 0
    while add_atomically(progress.ctypes.data + 16 * stage + 8, 0) < n_pieces:
        spins += 1
        if spins >= _SPINS:
            _yield()
    return stage + 1


@compiled
def _pieces(n_threads: int, n_out: int) -> int:
    """Pieces of a linear layer's outputs: some a thread, so that a late one finds less to do."""
    if n_threads == 1:
        return 1
    return min(n_threads * _PIECES_OF_A_THREAD, -(-n_out // (UNIT * LANES)))


@compiled
def _outputs(piece: int, n_pieces: int, n_out: int) -> tuple[int, int]:
    """A piece's outputs: from the first to before the last."""
    width = UNIT * LANES
    n_units = -(-n_out // width)
    return width * (n_units * piece // n_pieces), width * (n_units * (piece + 1) // n_pieces)


@compiled
def _multiply(
    place: int,
    last: int,
    weights: Weights,
    places: Longs,
    work: Work,
    n: int,
    n_in: int,
    out: Floats,
) -> None:
    """Outputs `place:last` of a linear layer for the first `n` rows of codes."""
    codes, row_bytes, n_pairs = work.levels.ctypes.data, 2 * work.levels.shape[1], n_in // 2
    numbers, steps = weights.numbers.ctypes.data, work.steps.ctypes.data
    matrix = weights.codes.ctypes.data + places[CODES]
    scales, bias = numbers + 4 * places[SCALES], numbers + 4 * places[BIAS]
    target, out_bytes = out.ctypes.data, 4 * out.shape[1]
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

"""The kernels of a decode step that multiply by a matrix: what comes before the product, and what becomes of it.

Each takes its rows a few at a time. The MLP's first matrix and the output layer, the largest ones, can also be gone
through by programs that keep their vector: `TURNS` tiles each, one below another.
Imported once Triton is there. Vectors are float32 unless said otherwise.
"""

from __future__ import annotations

import kasoku_resident_shape as shapes
import triton
import triton.language as tl
from kasoku_resident_products import NO_NORM, fetch_first, normed, product, row_sums
from kasoku_resident_state import GROUPS, LOWEST

SILU, GELU = tl.constexpr(shapes.SILU), tl.constexpr(shapes.GELU)
GELU_TANH, RELU = tl.constexpr(shapes.GELU_TANH), tl.constexpr(shapes.RELU)
GROUPS_HERE, LOWEST_RANK = tl.constexpr(GROUPS), tl.constexpr(LOWEST)


@triton.jit
def activated(values, ACTIVATION: tl.constexpr):
    """What the MLP does to its inner values, as transformers' ACT2FN computes it."""
    if ACTIVATION == SILU:
        values = values * tl.sigmoid(values)
    if ACTIVATION == GELU:
        values = 0.5 * values * (1.0 + tl.erf(values * 0.7071067811865476))
    if ACTIVATION == GELU_TANH:  # tanh(z) = 2 σ(2z) - 1
        values = values * tl.sigmoid(1.5957691216057308 * (values + 0.044715 * values * values * values))
    if ACTIVATION == RELU:
        values = tl.maximum(values, 0.0)
    return values


@triton.jit
def store_inner(
    out,
    totals,
    begin,
    ALL_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
):
    """What the MLP makes of its rows from `begin` on: one value of two rows, where it has a gate."""
    if GATED:
        gates, others = tl.split(tl.reshape(totals, (ROWS // 2, 2)))
        pairs = begin // 2 + tl.arange(0, ROWS // 2)
        values = activated(gates, ACTIVATION) * others
        tl.store(out + pairs, values.to(out.dtype.element_ty), mask=pairs < ALL_ROWS // 2)
    else:
        rows = begin + tl.arange(0, ROWS)
        values = activated(totals, ACTIVATION)
        tl.store(out + rows, values.to(out.dtype.element_ty), mask=rows < ALL_ROWS)


@triton.jit
def resident_qkv(
    out,
    x,
    weights,
    scales,
    biases,
    gain,
    shift,
    ALL_ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    EPSILON: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALED: tl.constexpr,
    BIAS: tl.constexpr,
    NORM: tl.constexpr,
    WHOLE: tl.constexpr,
    PADDED: tl.constexpr,
    PDL: tl.constexpr,
):
    """Queries, keys and values of the token, one after another, in `out` (ALL_ROWS)."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    totals = product(
        x, x, weights, scales, biases, gain, shift, rows, ALL_ROWS, WIDTH, EPSILON, TILE, STAGES, FORMAT, SCALED, BIAS,
        NORM, WHOLE, PADDED, False, PDL,
    )  # fmt: skip
    tl.store(out + rows, totals, mask=rows < ALL_ROWS)


@triton.jit
def resident_mlp(
    out,
    x,
    weights,
    scales,
    biases,
    gain,
    shift,
    ALL_ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    EPSILON: tl.constexpr,
    ROWS: tl.constexpr,
    TURNS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    PREFETCH: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALED: tl.constexpr,
    BIAS: tl.constexpr,
    NORM: tl.constexpr,
    WHOLE: tl.constexpr,
    PADDED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    GATED: tl.constexpr,
    PDL: tl.constexpr,
):
    """The MLP's inner values in `out`, of the model's type. With a gate, its rows and the other ones alternate."""
    begin = tl.program_id(0) * (ROWS * TURNS)
    rows = begin + tl.arange(0, ROWS)
    if TURNS == 1:
        totals = product(
            x, x, weights, scales, biases, gain, shift, rows, ALL_ROWS, WIDTH, EPSILON,
            TILE, STAGES, FORMAT, SCALED, BIAS, NORM, WHOLE, PADDED, False, PDL,
        )  # fmt: skip
        store_inner(out, totals, begin, ALL_ROWS, ROWS, ACTIVATION, GATED)
    else:
        fetch_first(weights, begin, PREFETCH * ROWS, ALL_ROWS, WIDTH)
        vector = normed(x, gain, shift, WIDTH, EPSILON, TILE, NORM, PDL)
        for turn in tl.range(0, TURNS, num_stages=STAGES):
            rows = begin + turn * ROWS + tl.arange(0, ROWS)
            totals = row_sums(vector, weights, scales, biases, rows, ALL_ROWS, WIDTH, TILE, FORMAT, SCALED, BIAS, WHOLE)
            store_inner(out, totals, begin + turn * ROWS, ALL_ROWS, ROWS, ACTIVATION, GATED)


@triton.jit
def resident_add(
    out,
    x,
    weights,
    scales,
    biases,
    ALL_ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALED: tl.constexpr,
    BIAS: tl.constexpr,
    WHOLE: tl.constexpr,
    PDL: tl.constexpr,
):
    """What attention or the MLP gives, projected and added to `out`; `x` (WIDTH) is of the model's type."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    totals = product(
        out, x, weights, scales, biases, x, x, rows, ALL_ROWS, WIDTH, 0.0, TILE, STAGES, FORMAT, SCALED, BIAS, NO_NORM,
        WHOLE, TILE, True, PDL,
    )  # fmt: skip
    tl.store(out + rows, totals, mask=rows < ALL_ROWS)


@triton.jit
def ranked(scores, ids):
    """int64 that are ordered as the scores, and of equal scores the lower id first."""
    bits = scores.to(tl.int32, bitcast=True)
    keys = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (keys.to(tl.int64) << 32) | (0x7FFFFFFF - ids).to(tl.int64)


@triton.jit
def marks_of(seen, rows, ALL_ROWS: tl.constexpr, PENALISED: tl.constexpr):
    """Which tokens were seen so far: since the last step, and so before a kernel waits."""
    return tl.load(seen + rows, mask=rows < ALL_ROWS, other=0) != 0 if PENALISED else False


@triton.jit
def store_scores(scores, was_seen, totals, rows, penalty, ALL_ROWS: tl.constexpr, PENALISED: tl.constexpr):
    """Keep logits, those of tokens seen so far penalised; returns their ranks, int64."""
    there = rows < ALL_ROWS
    if PENALISED:
        totals = tl.where(was_seen, tl.where(totals < 0, totals * penalty, totals / penalty), totals)
    tl.store(scores + rows, totals, mask=there)
    return ranked(tl.where(there, totals, float("-inf")), rows)


@triton.jit
def resident_head(
    scores,
    bests,
    seen,
    x,
    weights,
    scales,
    biases,
    gain,
    shift,
    penalty,
    ALL_ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    EPSILON: tl.constexpr,
    ROWS: tl.constexpr,
    TURNS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    PREFETCH: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALED: tl.constexpr,
    BIAS: tl.constexpr,
    NORM: tl.constexpr,
    WHOLE: tl.constexpr,
    PADDED: tl.constexpr,
    PENALISED: tl.constexpr,
    PDL: tl.constexpr,
):
    """The next token's logits in `scores`, those of tokens seen so far penalised; `bests` has the best of each group of
    programs."""
    begin = tl.program_id(0) * (ROWS * TURNS)
    rows = begin + tl.arange(0, ROWS)
    if TURNS == 1:
        was_seen = marks_of(seen, rows, ALL_ROWS, PENALISED)
        totals = product(
            x, x, weights, scales, biases, gain, shift, rows, ALL_ROWS, WIDTH, EPSILON,
            TILE, STAGES, FORMAT, SCALED, BIAS, NORM, WHOLE, PADDED, False, PDL,
        )  # fmt: skip
        best = store_scores(scores, was_seen, totals, rows, penalty, ALL_ROWS, PENALISED)
    else:
        fetch_first(weights, begin, PREFETCH * ROWS, ALL_ROWS, WIDTH)
        vector = normed(x, gain, shift, WIDTH, EPSILON, TILE, NORM, PDL)
        best = tl.full((ROWS,), LOWEST_RANK, tl.int64)
        for turn in tl.range(0, TURNS, num_stages=STAGES):
            rows = begin + turn * ROWS + tl.arange(0, ROWS)
            totals = row_sums(vector, weights, scales, biases, rows, ALL_ROWS, WIDTH, TILE, FORMAT, SCALED, BIAS, WHOLE)
            was_seen = marks_of(seen, rows, ALL_ROWS, PENALISED)
            best = tl.maximum(best, store_scores(scores, was_seen, totals, rows, penalty, ALL_ROWS, PENALISED))
    tl.atomic_max(bests + tl.program_id(0) % GROUPS_HERE, tl.max(best, 0))

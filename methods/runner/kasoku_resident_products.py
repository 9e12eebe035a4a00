"""A matrix times one vector in Triton, as the kernels of a decode step do it.

Each program has some rows of a matrix, one way or the other. `product` loads the first tile of a few rows' weights,
which nobody changes, before it waits for the kernel that makes its vector, so that the memory is never idle between two
kernels. With `normed` and `row_sums` a program keeps its whole vector, and goes through many rows with it: their first
bytes are under way to the L2 cache (`fetch_first`) while it waits. With PDL, kernels are launched as programmatic
dependents (Hopper and later): `enter` lets the next one start, then waits for all before.

Imported once Triton is there. Vectors are float32 unless said otherwise.
"""

from __future__ import annotations

import kasoku_resident_shape as shapes
import kasoku_resident_weights as packing
import triton
import triton.language as tl

BIASED = tl.constexpr(packing.BIASED)
NO_NORM, RMS_NORM, LAYER_NORM = (tl.constexpr(each) for each in (shapes.NO_NORM, shapes.RMS_NORM, shapes.LAYER_NORM))
LOADED = tl.constexpr(16)  # bytes that a thread loads at once
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # no inline assembly there, and no bfloat16 tl.dot


@triton.jit
def enter(PDL: tl.constexpr):
    """Let the next kernel be launched, and wait until all that those before this one wrote can be seen."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def numbers(stored, FORMAT: tl.constexpr):
    """Weights as float32. A biased byte is put behind the exponent of 2²³, four of them by an instruction each."""
    if FORMAT == BIASED:
        if INTERPRETED:
            bits = stored.to(tl.int32) | 0x4B000000
        else:
            bits = tl.inline_asm_elementwise(
                "prmt.b32 $0, $4, 0x4B000000, 0x7440; prmt.b32 $1, $4, 0x4B000000, 0x7441;"
                "prmt.b32 $2, $4, 0x4B000000, 0x7442; prmt.b32 $3, $4, 0x4B000000, 0x7443;",
                "=r,=r,=r,=r,r",
                [stored],
                dtype=tl.int32,
                is_pure=True,
                pack=4,
            )
        values = bits.to(tl.float32, bitcast=True) - 8388736.0
    else:
        values = stored.to(tl.float32)
    return values


@triton.jit
def loaded(
    weights, rows, columns, ALL_ROWS: tl.constexpr, WIDTH: tl.constexpr, WHOLE: tl.constexpr, FORMAT: tl.constexpr
):
    """A tile of weights (ALL_ROWS, WIDTH), each read once a token; WHOLE: no tile reaches over an edge."""
    places = weights + rows.to(tl.int64)[:, None] * WIDTH + columns[None, :]
    if WHOLE:
        tile = tl.load(places, eviction_policy="evict_first")
    else:
        there = (rows < ALL_ROWS)[:, None] & (columns < WIDTH)[None, :]
        if FORMAT == BIASED:
            tile = tl.load(places, mask=there, other=0, eviction_policy="evict_first")
        else:
            tile = tl.load(places, mask=there, other=0.0, eviction_policy="evict_first")
    return tile


@triton.jit
def moments(x, EPSILON: tl.constexpr, NORM: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """(mean, 1 / spread) of a vector: of all of it in every program, which is cheaper than a kernel of its own."""
    mean = 0.0
    rate = 1.0
    if NORM != NO_NORM:
        columns = tl.arange(0, PADDED)
        values = tl.load(x + columns, mask=columns < WIDTH, other=0.0)
        if NORM == LAYER_NORM:
            mean = tl.sum(values, 0) / WIDTH
            values = tl.where(columns < WIDTH, values - mean, 0.0)
        rate = 1.0 / tl.sqrt(tl.sum(values * values, 0) / WIDTH + EPSILON)
    return mean, rate


@triton.jit
def gains_of(gain, columns, NORM: tl.constexpr, WIDTH: tl.constexpr):
    """A norm's gains of some columns: nobody changes them, so that they may be loaded before a kernel waits."""
    gains = 1.0
    if NORM != NO_NORM:
        gains = tl.load(gain + columns, mask=columns < WIDTH, other=0.0).to(tl.float32)
    return gains


@triton.jit
def given(x, gains, shift, columns, mean, rate, NORM: tl.constexpr, WIDTH: tl.constexpr):
    """A tile of the vector, normed but for the rate of a root mean square; 0 beyond its end."""
    there = columns < WIDTH
    values = tl.load(x + columns, mask=there, other=0.0).to(tl.float32)
    if NORM == LAYER_NORM:
        values = (values - mean) * rate
    values *= gains
    if NORM == LAYER_NORM:
        values += tl.load(shift + columns, mask=there, other=0.0).to(tl.float32)
    return values


@triton.jit
def within(values, PER: tl.constexpr):
    """A tile with each `PER` neighbours of a row added up, which one thread has loaded: so it keeps few sums."""
    return tl.sum(tl.reshape(values, (values.shape[0], values.shape[1] // PER, PER)), 2)


@triton.jit
def product(
    added,
    x,
    weights,
    scales,
    biases,
    gain,
    shift,
    rows,
    ALL_ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    EPSILON: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALED: tl.constexpr,
    BIAS: tl.constexpr,
    NORM: tl.constexpr,
    WHOLE: tl.constexpr,
    PADDED: tl.constexpr,
    ADDED: tl.constexpr,
    PDL: tl.constexpr,
):
    """The `rows` of norm(x) · weights (ALL_ROWS, WIDTH)ᵀ · scales + biases, and, ADDED, what `added` has of them."""
    PER: tl.constexpr = min(TILE, LOADED // (weights.dtype.element_ty.primitive_bitwidth // 8))
    columns = tl.arange(0, TILE)
    tile = loaded(weights, rows, columns, ALL_ROWS, WIDTH, WHOLE, FORMAT)
    gains = gains_of(gain, columns, NORM, WIDTH)
    enter(PDL)
    before = tl.load(added + rows, mask=rows < ALL_ROWS, other=0.0) if ADDED else 0.0
    mean = 0.0
    rate = 1.0
    if NORM == LAYER_NORM:
        mean, rate = moments(x, EPSILON, NORM, WIDTH, PADDED)
    vector = given(x, gains, shift, columns, mean, rate, NORM, WIDTH)
    sums = within(numbers(tile, FORMAT) * vector[None, :], PER)
    for begin in tl.range(TILE, WIDTH, TILE, num_stages=STAGES):
        columns = begin + tl.arange(0, TILE)
        tile = loaded(weights, rows, columns, ALL_ROWS, WIDTH, WHOLE, FORMAT)
        vector = given(x, gains_of(gain, columns, NORM, WIDTH), shift, columns, mean, rate, NORM, WIDTH)
        sums += within(numbers(tile, FORMAT) * vector[None, :], PER)
    totals = tl.sum(sums, 1)
    if NORM == RMS_NORM:  # of the whole vector, and so it may come last: nothing waits for it
        mean, rate = moments(x, EPSILON, NORM, WIDTH, PADDED)
        totals *= rate
    return finished(totals, scales, biases, rows, ALL_ROWS, SCALED, BIAS) + before


@triton.jit
def finished(totals, scales, biases, rows, ALL_ROWS: tl.constexpr, SCALED: tl.constexpr, BIAS: tl.constexpr):
    """Rows' sums with their scales and biases."""
    if SCALED:
        totals *= tl.load(scales + rows, mask=rows < ALL_ROWS, other=0.0)
    if BIAS:
        totals += tl.load(biases + rows, mask=rows < ALL_ROWS, other=0.0).to(tl.float32)
    return totals


@triton.jit
def fetch_first(weights, first_row, ROWS: tl.constexpr, ALL_ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Have the GPU fetch `ROWS` rows from `first_row` on into its L2 cache, where they can be cut in 256 (Hopper)."""
    SIZE: tl.constexpr = weights.dtype.element_ty.primitive_bitwidth // 8
    CHUNK: tl.constexpr = ROWS * WIDTH * SIZE // 256
    if CHUNK > 0 and ROWS * WIDTH * SIZE % 4096 == 0:
        chunks = tl.arange(0, 256).to(tl.int64) * CHUNK
        begins = first_row.to(tl.int64) * (WIDTH * SIZE) + chunks
        inside = begins + CHUNK <= ALL_ROWS * WIDTH * SIZE
        tl.inline_asm_elementwise(
            "cp.async.bulk.prefetch.L2.global [$1], $2; mov.u32 $0, 0;",
            "=r,l,r",
            [weights.to(tl.int64) + tl.where(inside, begins, 0), tl.full((256,), CHUNK, tl.int32)],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )


@triton.jit
def normed(
    x,
    gain,
    shift,
    WIDTH: tl.constexpr,
    EPSILON: tl.constexpr,
    TILE: tl.constexpr,
    NORM: tl.constexpr,
    PDL: tl.constexpr,
):
    """The whole vector (1, TILE), normed, once it is there; 0 beyond its end."""
    columns = tl.arange(0, TILE)
    there = columns < WIDTH
    gains = tl.load(gain + columns, mask=there, other=0.0).to(tl.float32) if NORM != NO_NORM else 1.0
    shifts = tl.load(shift + columns, mask=there, other=0.0).to(tl.float32) if NORM == LAYER_NORM else 0.0
    enter(PDL)
    values = tl.load(x + columns, mask=there, other=0.0).to(tl.float32)
    if NORM == LAYER_NORM:
        values = tl.where(there, values - tl.sum(values, 0) / WIDTH, 0.0)
    if NORM != NO_NORM:
        values *= gains / tl.sqrt(tl.sum(values * values, 0) / WIDTH + EPSILON)
    if NORM == LAYER_NORM:
        values += shifts
    return values[None, :]


@triton.jit
def row_sums(
    vector,
    weights,
    scales,
    biases,
    rows,
    ALL_ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALED: tl.constexpr,
    BIAS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """The `rows` of weights (ALL_ROWS, WIDTH) · vector (1, TILE) · scales + biases."""
    PER: tl.constexpr = min(TILE, LOADED // (weights.dtype.element_ty.primitive_bitwidth // 8))
    tile = loaded(weights, rows, tl.arange(0, TILE), ALL_ROWS, WIDTH, WHOLE, FORMAT)
    totals = tl.sum(within(numbers(tile, FORMAT) * vector, PER), 1)
    return finished(totals, scales, biases, rows, ALL_ROWS, SCALED, BIAS)

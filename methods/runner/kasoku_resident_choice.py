"""How the next token is chosen, as Triton kernels: drawn among the likeliest, written to the ring, and read in again.

What is kept by top-k and top-p is found without sorting, in two histograms each of how far scores are from the best:
8,192 steps of 2⁻⁸ nats, then 8,192 steps within the one where the bound lies. Beyond 32 nats below the best no score is
told from another: each has less than 10⁻¹³ of the best one's probability. A token is drawn by the Gumbel trick, the
highest of score + noise, from Philox with the request's seed, the token's id and the step as its counter, so that a
seed's text does not depend on how programs come to run.

Imported once Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl
from kasoku_resident_kernels import ranked
from kasoku_resident_products import enter
from kasoku_resident_state import (
    BELOW,
    BIN,
    CUT,
    DONE,
    DRAWN,
    EVERYTHING,
    FORCED,
    GROUPS,
    LIMIT,
    LOWEST,
    POSITION,
    SEED,
    STEP,
    TALLY,
    TARGET,
)

BINS = 8192
UNITS = tl.constexpr(float(1 << 21))  # of which a nat has so many
FARTHEST = tl.constexpr(float((1 << 26) - 4))  # below 2²⁶, and a float32
MASS = tl.constexpr(float(1 << 40))  # of the best score: sums of whole numbers come to the same in any order
BINS_HERE = tl.constexpr(BINS)
BELOW_AT, BIN_AT, CUT_AT, DONE_AT = (tl.constexpr(each) for each in (BELOW, BIN, CUT, DONE))
GROUPS_HERE = tl.constexpr(GROUPS)
DRAWN_AT, FORCED_AT, LIMIT_AT, POSITION_AT = (tl.constexpr(each) for each in (DRAWN, FORCED, LIMIT, POSITION))
SEED_AT, STEP_AT, TALLY_AT, TARGET_AT = (tl.constexpr(each) for each in (SEED, STEP, TALLY, TARGET))
LOWEST_RANK, CUT_NOTHING = tl.constexpr(LOWEST), tl.constexpr(EVERYTHING)
HALF, SPAN = tl.constexpr(0.5), tl.constexpr(2.0**-32)


@triton.jit
def best_of(bests):
    """The rank of the best score of all groups."""
    return tl.max(tl.load(bests + tl.arange(0, GROUPS_HERE)), 0)


@triton.jit
def keys_of(ranks):
    """Of ranks that kasoku_resident_kernels.ranked gave, what orders their scores."""
    return (ranks >> 32).to(tl.int32)


@triton.jit
def score_of_key(key):
    """The score of which that is."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def score_of(rank):
    """The score of a rank."""
    return score_of_key(keys_of(rank))


@triton.jit
def behind(scores, bests, temperature):
    """How many nats each score is behind the best, at this temperature."""
    return (score_of(best_of(bests)) - scores) / temperature


@triton.jit
def units(nats):
    """The same in whole units, from 0 to FARTHEST."""
    return tl.minimum(nats * UNITS, FARTHEST).to(tl.int32)


@triton.jit
def mass_of(nats):
    """How likely a score is beside the best, in MASS."""
    return (tl.exp(-nats) * MASS + HALF).to(tl.int64)


@triton.jit
def mass_at(distance):
    """The same of a score so many units behind the best."""
    return mass_of(distance.to(tl.float32) / UNITS)


@triton.jit
def noisy(nats, ids, state):
    """Each score with Gumbel noise of its own, for the request's seed and the step: the highest of them is drawn."""
    nothing = ids * 0
    step = tl.load(state + STEP_AT).to(tl.int32)
    bits, _, _, _ = tl.philox(tl.load(state + SEED_AT), ids, nothing + step, nothing, nothing)
    chance = (bits.to(tl.uint32, bitcast=True).to(tl.float32) + HALF) * SPAN
    # -ln(1 - c), by its series where 1 - c would lose what tells small chances apart
    wait = tl.where(chance < 1e-3, chance * (1.0 + chance * (0.5 + chance * 0.3333333)), -tl.log(1.0 - chance))
    return -nats - tl.log(wait)


@triton.jit
def resident_narrow(
    state,
    bests,
    scores,
    histogram,
    temperature,
    asked,
    VOCABULARY: tl.constexpr,
    BLOCK: tl.constexpr,
    BY_MASS: tl.constexpr,
    FINE: tl.constexpr,
    PDL: tl.constexpr,
):
    """Bring the cut nearer: to where `asked` scores are kept, or, BY_MASS, `asked` of the probability kept so far.

    Scores that are equal are kept together. The first of two kernels finds the coarse bin, the one that is FINE the
    place in it; of each the program that is done last reads the histogram, and clears it.
    """
    ids = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = ids < VOCABULARY
    enter(PDL)
    nats = behind(tl.load(scores + ids, mask=there, other=float("-inf")), bests, temperature)
    distance = units(nats)
    counted = there & (distance <= tl.load(state + CUT_AT))
    bins = distance >> 13
    if FINE:
        counted = counted & (bins == tl.load(state + BIN_AT))
        bins = distance & 8191
    share = tl.full((BLOCK,), 1, tl.int64)
    if BY_MASS:
        share = mass_of(nats)
    tl.atomic_add(histogram + bins, share, mask=counted, sem="relaxed")
    tl.debug_barrier()
    done = tl.atomic_add(state + TALLY_AT, 1, sem="acq_rel")
    if done == tl.num_programs(0) - 1:
        tl.debug_barrier()
        places = tl.arange(0, BINS_HERE)
        counts = tl.load(histogram + places, cache_modifier=".cg")
        below = tl.load(state + BELOW_AT)
        up_to = below + tl.cumsum(counts, 0)
        if FINE:
            target = tl.load(state + TARGET_AT)
        elif BY_MASS:
            target = (tl.sum(counts, 0).to(tl.float64) * asked).to(tl.int64)
            target = tl.maximum(target, 1)
        else:
            target = tl.cast(asked, tl.int64)
        short = up_to < target
        place = tl.minimum(tl.sum(short.to(tl.int32), 0), BINS_HERE - 1)
        if FINE:
            tl.store(state + CUT_AT, (tl.load(state + BIN_AT) << 13) + place)
            tl.store(state + BELOW_AT, 0)
        else:
            tl.store(state + BIN_AT, place)
            tl.store(state + BELOW_AT, tl.max(tl.where(short & (places < place), up_to, 0), 0))
            tl.store(state + TARGET_AT, target)
        tl.store(histogram + places, tl.zeros((BINS_HERE,), tl.int64))
        tl.store(state + TALLY_AT, 0)


@triton.jit
def resident_draw(
    state,
    bests,
    scores,
    temperature,
    VOCABULARY: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    """Draw one of the scores that are kept, each with its probability."""
    ids = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = ids < VOCABULARY
    enter(PDL)
    nats = behind(tl.load(scores + ids, mask=there, other=float("-inf")), bests, temperature)
    kept = there & (units(nats) <= tl.load(state + CUT_AT))
    tl.atomic_max(state + DRAWN_AT, tl.max(ranked(tl.where(kept, noisy(nats, ids, state), float("-inf")), ids), 0))


@triton.jit
def advance(
    best,
    state,
    bests,
    ring,
    forced,
    stops,
    seen,
    embeddings,
    positions,
    x,
    cosines,
    sines,
    turn,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    STOPS: tl.constexpr,
    LEARNED: tl.constexpr,
    HEAD: tl.constexpr,
    DIMS: tl.constexpr,
    ROPE: tl.constexpr,
):
    """Write the token of the rank `best` to the ring, unless the response has ended, and for the next step its
    embedding to `x` and its rotary embedding to `turn` (2, HEAD). One program does so, once no other reads `bests`.
    """
    token = 0x7FFFFFFF - (best & 0xFFFFFFFF)
    step = tl.load(state + STEP_AT)
    position = tl.load(state + POSITION_AT)
    if tl.load(state + FORCED_AT) != 0:
        token = tl.load(forced + step)
    if tl.load(state + DONE_AT) == 0:
        stopping = tl.load(stops + tl.arange(0, STOPS)) == token
        ends = (tl.sum(stopping.to(tl.int32), 0) > 0) | (step + 1 >= tl.load(state + LIMIT_AT))
        tl.store(seen + token, 1)
        tl.store(ring + step, token.to(tl.int32), cache_modifier=".wt")
        step += 1
        position += 1
        tl.store(state + STEP_AT, step)
        tl.store(state + POSITION_AT, position)
        tl.store(state + DONE_AT, ends.to(tl.int64))
        position -= ends.to(tl.int64)  # nothing is read beyond the last position
    tl.store(bests + tl.arange(0, GROUPS_HERE), tl.full((GROUPS_HERE,), LOWEST_RANK, tl.int64))
    tl.store(state + DRAWN_AT, LOWEST_RANK)
    tl.store(state + CUT_AT, CUT_NOTHING)
    columns = tl.arange(0, PADDED)
    there = columns < WIDTH
    embedding = tl.load(embeddings + token * WIDTH + columns, mask=there, other=0.0).to(tl.float32)
    if LEARNED:
        embedding += tl.load(positions + position * WIDTH + columns, mask=there, other=0.0).to(tl.float32)
    tl.store(x + columns, embedding, mask=there)
    if ROPE:
        dims = tl.arange(0, DIMS)
        in_head = dims < HEAD
        row = position * HEAD + dims
        tl.store(turn + dims, tl.load(cosines + row, mask=in_head, other=0.0), mask=in_head)
        tl.store(turn + HEAD + dims, tl.load(sines + row, mask=in_head, other=0.0), mask=in_head)


@triton.jit
def resident_advance(
    state,
    bests,
    ring,
    forced,
    stops,
    seen,
    embeddings,
    positions,
    x,
    cosines,
    sines,
    turn,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    STOPS: tl.constexpr,
    LEARNED: tl.constexpr,
    HEAD: tl.constexpr,
    DIMS: tl.constexpr,
    ROPE: tl.constexpr,
    SAMPLED: tl.constexpr,
    PDL: tl.constexpr,
):
    """Go on with the best token of all, or with what was SAMPLED."""
    enter(PDL)
    best = best_of(bests)
    if SAMPLED:
        best = tl.load(state + DRAWN_AT)
    advance(
        best, state, bests, ring, forced, stops, seen, embeddings, positions, x, cosines, sines, turn,
        WIDTH, PADDED, STOPS, LEARNED, HEAD, DIMS, ROPE,
    )  # fmt: skip

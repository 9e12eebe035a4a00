"""How the next token is chosen where top-k keeps few, as Triton kernels: what is left of all scores is a short list.

One kernel counts scores in 1,024 steps of 2⁻⁵ nats from the best, and finds the step within which the last of the best
`k` lies. The other lists all scores up to there, some more than `k`, and its last program does the rest: of each score
it counts how many are better, and how much of the probability they have, and draws among those that are kept. Scores
that are equal are kept together, so that the list may be long: that takes long, and is no less right.

Imported once Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl
from kasoku_resident_choice import BIN_AT, DRAWN_AT, TALLY_AT, behind, mass_of, noisy, units
from kasoku_resident_kernels import ranked
from kasoku_resident_products import enter
from kasoku_resident_state import LISTED

STEPS = 1024
STEP_BITS = tl.constexpr(16)  # of a distance in units, which has 26
STEPS_HERE = tl.constexpr(STEPS)
LISTED_AT = tl.constexpr(LISTED)
MINE = tl.constexpr(128)  # of the list at a time, and beside each of them so many others
THEIRS = tl.constexpr(128)
NOWHERE = tl.constexpr((1 << 26) + 1)  # beyond the farthest


@triton.jit
def resident_tally(
    state, scores, histogram, temperature, top_k, VOCABULARY: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr
):
    """Find the step within which the last of the best `top_k` lies; the program that is done last does, and clears."""
    ids = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = ids < VOCABULARY
    enter(PDL)
    nats = behind(tl.load(scores + ids, mask=there, other=float("-inf")), state, temperature)
    tl.atomic_add(histogram + (units(nats) >> STEP_BITS), 1, mask=there, sem="relaxed")
    tl.debug_barrier()
    done = tl.atomic_add(state + TALLY_AT, 1, sem="acq_rel")
    if done == tl.num_programs(0) - 1:
        tl.debug_barrier()
        places = tl.arange(0, STEPS_HERE)
        up_to = tl.cumsum(tl.load(histogram + places, cache_modifier=".cg"), 0)
        short = tl.sum((up_to < top_k).to(tl.int32), 0)
        tl.store(state + BIN_AT, tl.minimum(short, STEPS_HERE - 1))
        tl.store(histogram + places, tl.zeros((STEPS_HERE,), tl.int32))
        tl.store(state + TALLY_AT, 0)


@triton.jit
def nats_at(listed, places, count):
    """How many nats the scores at some places of the list are behind the best."""
    return tl.load(listed + places, mask=places < count, other=0.0, cache_modifier=".cg")


@triton.jit
def distances(nats, places, count):
    """The same in whole units; what is beyond the list's end is nowhere."""
    return tl.where(places < count, units(nats), NOWHERE)


@triton.jit
def mass_within(listed, count, cut):
    """The probability of all scores up to `cut`, in MASS."""
    whole = tl.cast(0, tl.int64)
    for begin in tl.range(0, count, MINE):
        places = begin + tl.arange(0, MINE)
        nats = nats_at(listed, places, count)
        whole += tl.sum(tl.where(distances(nats, places, count) <= cut, mass_of(nats), 0), 0)
    return whole


@triton.jit
def farthest(listed, count, cut, target, BY_MASS: tl.constexpr):
    """The distance of the farthest score up to `cut` with fewer better ones, BY_MASS less of them, than `target`."""
    found = -1
    for begin in tl.range(0, count, MINE):
        places = begin + tl.arange(0, MINE)
        mine = distances(nats_at(listed, places, count), places, count)
        better = tl.zeros((MINE,), tl.int64)
        for others in tl.range(0, count, THEIRS):
            beside = others + tl.arange(0, THEIRS)
            nats = nats_at(listed, beside, count)
            theirs = distances(nats, beside, count)
            share = mass_of(nats) if BY_MASS else tl.full((THEIRS,), 1, tl.int64)
            better += tl.sum(tl.where(theirs[None, :] < mine[:, None], share[None, :], 0), 1)
        found = tl.maximum(found, tl.max(tl.where((mine <= cut) & (better < target), mine, -1), 0))
    return found


@triton.jit
def resident_pick(
    state,
    scores,
    listed,
    listed_ids,
    temperature,
    top_k,
    top_p,
    VOCABULARY: tl.constexpr,
    BLOCK: tl.constexpr,
    BY_MASS: tl.constexpr,
    PDL: tl.constexpr,
):
    """Draw one of the scores that `top_k` and, BY_MASS, `top_p` keep, each with its probability.

    `listed` has how many nats the listed scores are behind the best, in the order in which programs came, and
    `listed_ids` their ids: nothing depends on that order.
    """
    ids = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = ids < VOCABULARY
    enter(PDL)
    nats = behind(tl.load(scores + ids, mask=there, other=float("-inf")), state, temperature)
    near = there & ((units(nats) >> STEP_BITS) <= tl.load(state + BIN_AT))
    mine = near.to(tl.int32)
    number = tl.sum(mine, 0)
    if number > 0:
        first = tl.atomic_add(state + LISTED_AT, number.to(tl.int64), sem="relaxed").to(tl.int32)
        places = first + tl.cumsum(mine, 0) - mine
        tl.store(listed + places, nats, mask=near)
        tl.store(listed_ids + places, ids, mask=near)
    tl.debug_barrier()
    done = tl.atomic_add(state + TALLY_AT, 1, sem="acq_rel")
    if done == tl.num_programs(0) - 1:
        tl.debug_barrier()
        count = tl.atomic_add(state + LISTED_AT, 0, sem="relaxed").to(tl.int32)
        cut = farthest(listed, count, NOWHERE - 1, top_k, False)
        if BY_MASS:
            target = (mass_within(listed, count, cut).to(tl.float64) * top_p).to(tl.int64)
            cut = farthest(listed, count, cut, tl.maximum(target, 1), True)
        best = tl.load(state + DRAWN_AT)
        for begin in tl.range(0, count, MINE):
            at = begin + tl.arange(0, MINE)
            its_nats = nats_at(listed, at, count)
            its_ids = tl.load(listed_ids + at, mask=at < count, other=0, cache_modifier=".cg")
            kept = distances(its_nats, at, count) <= cut
            drawn = tl.where(kept, noisy(its_nats, its_ids, state), float("-inf"))
            best = tl.maximum(best, tl.max(ranked(drawn, its_ids), 0))
        tl.store(state + DRAWN_AT, best)
        tl.store(state + LISTED_AT, 0)
        tl.store(state + TALLY_AT, 0)

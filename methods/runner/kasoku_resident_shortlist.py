"""How the next token is chosen where top-k keeps few, as a Triton kernel: what is left of all scores is a short list.

The best score of each of 256 groups is known, and the `k`-th best of these is reached by `k` scores or more: those are
listed, and the last program does the rest. It puts them in order, or of a long list counts for each score how many are
better, and how much of the probability they have, draws among those that are kept, and goes on with the token, so that
no other kernel has to. Scores that are equal are kept together, so that the list may be long: that takes long, and is
no less right.

Imported once Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl
from kasoku_resident_choice import (
    DRAWN_AT,
    FARTHEST,
    TALLY_AT,
    advance,
    best_of,
    keys_of,
    mass_at,
    noisy,
    score_of,
    score_of_key,
    units,
)
from kasoku_resident_kernels import ranked
from kasoku_resident_products import enter
from kasoku_resident_state import GROUPS, LISTED, LOWEST

LISTED_AT = tl.constexpr(LISTED)
GROUPS_HERE, LOWEST_KEY = tl.constexpr(GROUPS), tl.constexpr(LOWEST >> 32)
MINE = tl.constexpr(128)  # of the list at a time, and beside each of them so many others
THEIRS = tl.constexpr(128)
NOWHERE = tl.constexpr((1 << 26) + 1)  # beyond the farthest


@triton.jit
def bound_of(bests, best, temperature, top_k):
    """How far, in units, a score may be from the best one for the list to have the best `top_k`."""
    places = tl.arange(0, GROUPS_HERE)
    keys = tl.sort(keys_of(tl.load(bests + places)), descending=True)
    last = tl.sum(tl.where(places == top_k - 1, keys, 0), 0)
    distance = units((best - score_of_key(last)) / temperature)
    return tl.where(last == LOWEST_KEY, tl.cast(FARTHEST, tl.int32), distance)  # fewer groups have a score


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
        mine = distances(nats_at(listed, places, count), places, count)
        whole += tl.sum(tl.where(mine <= cut, mass_at(mine), 0), 0)
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
            theirs = distances(nats_at(listed, beside, count), beside, count)
            share = mass_at(theirs) if BY_MASS else tl.full((THEIRS,), 1, tl.int64)
            better += tl.sum(tl.where(theirs[None, :] < mine[:, None], share[None, :], 0), 1)
        found = tl.maximum(found, tl.max(tl.where((mine <= cut) & (better < target), mine, -1), 0))
    return found


@triton.jit
def drawn_among(its_nats, its_ids, kept, state):
    """The rank of what is drawn among those that are kept."""
    return tl.max(ranked(tl.where(kept, noisy(its_nats, its_ids, state), float("-inf")), its_ids), 0)


@triton.jit
def drawn_of_few(listed, listed_ids, count, state, top_k, top_p, BY_MASS: tl.constexpr):
    """The rank of what is drawn of a list of at most MINE: it is read once."""
    places = tl.arange(0, MINE)
    nats = nats_at(listed, places, count)
    its_ids = tl.load(listed_ids + places, mask=places < count, other=0, cache_modifier=".cg")
    mine = distances(nats, places, count)
    in_order = tl.sort(mine)
    cut = tl.sum(tl.where(places == tl.minimum(top_k, count) - 1, in_order, 0), 0)
    if BY_MASS:
        shares = tl.where(in_order <= cut, mass_at(in_order), 0)
        target = tl.maximum((tl.sum(shares, 0).to(tl.float64) * top_p).to(tl.int64), 1)
        better = tl.cumsum(shares, 0) - shares
        cut = tl.max(tl.where((in_order <= cut) & (better < target), in_order, -1), 0)
    return drawn_among(nats, its_ids, mine <= cut, state)


@triton.jit
def drawn_of_many(listed, listed_ids, count, state, top_k, top_p, BY_MASS: tl.constexpr):
    """The same of a longer list, which is gone through in parts."""
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
        best = tl.maximum(best, drawn_among(its_nats, its_ids, kept, state))
    return best


@triton.jit
def resident_pick(
    state,
    bests,
    scores,
    listed,
    listed_ids,
    temperature,
    top_k,
    top_p,
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
    VOCABULARY: tl.constexpr,
    BLOCK: tl.constexpr,
    BY_MASS: tl.constexpr,
    PDL: tl.constexpr,
):
    """Draw one of the scores that `top_k` and, BY_MASS, `top_p` keep, each with its probability, and go on with it.

    `listed` has how many nats the listed scores are behind the best, in the order in which programs came, and
    `listed_ids` their ids: nothing depends on that order.
    """
    ids = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = ids < VOCABULARY
    enter(PDL)
    best_score = score_of(best_of(bests))
    nats = (best_score - tl.load(scores + ids, mask=there, other=float("-inf"))) / temperature
    near = there & (units(nats) <= bound_of(bests, best_score, temperature, top_k))
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
        if count <= MINE:
            best = drawn_of_few(listed, listed_ids, count, state, top_k, top_p, BY_MASS)
        else:
            best = drawn_of_many(listed, listed_ids, count, state, top_k, top_p, BY_MASS)
        tl.store(state + LISTED_AT, 0)
        tl.store(state + TALLY_AT, 0)
        advance(
            best, state, bests, ring, forced, stops, seen, embeddings, positions, x, cosines, sines, turn,
            WIDTH, PADDED, STOPS, LEARNED, HEAD, DIMS, ROPE,
        )  # fmt: skip

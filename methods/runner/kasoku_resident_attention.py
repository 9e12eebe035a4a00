"""Attention of one token to all before it, as a Triton kernel over a cache that is as long as a request may become.

Imported once Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl
from kasoku_resident_products import enter
from kasoku_resident_state import POSITION

POSITION_AT = tl.constexpr(POSITION)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def turned(
    vector,
    dims,
    gain,
    cosines,
    sines,
    HEAD: tl.constexpr,
    EPSILON: tl.constexpr,
    HEAD_NORM: tl.constexpr,
    ROPE: tl.constexpr,
):
    """One head (dims) of a query or key: normed, if they are, and turned by a position's rotary embedding.

    A dimension's partner is half a head away (transformers' rotate_half).
    """
    there = dims < HEAD
    values = tl.load(vector + dims, mask=there, other=0.0)
    rate = 1.0
    if HEAD_NORM:
        rate = 1.0 / tl.sqrt(tl.sum(values * values, 0) / HEAD + EPSILON)
        values = values * rate * tl.load(gain + dims, mask=there, other=0.0).to(tl.float32)
    if ROPE:
        half = HEAD // 2
        partners = tl.where(dims < half, dims + half, dims - half)
        others = tl.load(vector + partners, mask=there, other=0.0)
        if HEAD_NORM:
            others *= rate * tl.load(gain + partners, mask=there, other=0.0).to(tl.float32)
        cosine = tl.load(cosines + dims, mask=there, other=0.0)
        sine = tl.load(sines + dims, mask=there, other=0.0)
        values = values * cosine + others * tl.where(dims < half, -sine, sine)
    return values


@triton.jit
def attended(query, key_tile, value_tile, before, peak, weight, total):
    """The softmax so far with a block of positions more: highest score, denominator and numerators (dims)."""
    scores = tl.where(before, tl.sum(key_tile.to(tl.float32) * query[None, :], 1), float("-inf"))
    higher = tl.maximum(peak, tl.max(scores, 0))
    shrink = tl.exp2(peak - higher)
    shares = tl.exp2(scores - higher)
    value_tile = tl.where(before[:, None], value_tile, 0.0).to(tl.float32)
    total = total * shrink + tl.sum(value_tile * shares[:, None], 0)
    return higher, weight * shrink + tl.sum(shares, 0), total


@triton.jit
def resident_attention(
    out,
    qkv,
    keys,
    values,
    state,
    cosines,
    sines,
    query_gain,
    key_gain,
    sums,
    peaks,
    weights,
    arrived,
    scaling,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    LENGTH: tl.constexpr,
    EPSILON: tl.constexpr,
    HEAD_NORM: tl.constexpr,
    ROPE: tl.constexpr,
    DIMS: tl.constexpr,
    MEMBERS: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOGETHER: tl.constexpr,
    PDL: tl.constexpr,
):
    """Of the token's queries, keys and values in `qkv`: write keys and values to the cache (KV_HEADS, LENGTH, HEAD),
    and what the heads attend to, in the model's type, to `out` (HEADS, HEAD).

    A program has `MEMBERS` heads of queries to a head of keys, one after another, and every `SPLITS`th block of the
    positions before the token, of which it loads the first before it waits: only the token's own place changes in a
    step. The first part has the token itself, so that none reads what another writes. `DIMS` is the power of two that
    holds a head's dimensions; `cosines` and `sines` (HEAD) are the token's. Where several programs share a head, the
    last one to arrive puts the parts together, `TOGETHER` at a time: `sums`, `peaks` and `weights` are a softmax's
    numerators, highest scores and denominators, by head of queries and part.
    """
    group = tl.program_id(0)
    part = tl.program_id(1)
    EACH: tl.constexpr = HEADS // KV_HEADS
    head = group * MEMBERS // EACH
    dims = tl.arange(0, DIMS)
    in_head = dims < HEAD
    cached = head.to(tl.int64) * LENGTH * HEAD
    positions = part * BLOCK + tl.arange(0, BLOCK)
    places = cached + positions[:, None] * HEAD + dims[None, :]
    inside = (positions < LENGTH)[:, None] & in_head[None, :]
    key_tile = tl.load(keys + places, mask=inside, other=0.0)
    value_tile = tl.load(values + places, mask=inside, other=0.0)
    new_key = qkv + (HEADS + head) * HEAD
    new_value = qkv + (HEADS + KV_HEADS + head) * HEAD

    enter(PDL)
    position = tl.load(state + POSITION_AT).to(tl.int32)
    parts = tl.maximum(tl.minimum(tl.cdiv(position, BLOCK), SPLITS), 1)
    if part < parts:
        is_first = part == 0
        key = turned(new_key, dims, key_gain, cosines, sines, HEAD, EPSILON, HEAD_NORM, ROPE)
        key = key.to(keys.dtype.element_ty)
        value = tl.load(new_value + dims, mask=in_head, other=0.0).to(values.dtype.element_ty)
        keeps = in_head & is_first & (group * MEMBERS % EACH == 0)
        own = cached + position * HEAD + dims
        tl.store(keys + own, key, mask=keeps)
        tl.store(values + own, value, mask=keeps)
        for member in tl.static_range(MEMBERS):
            number = group * MEMBERS + member
            query = turned(qkv + number * HEAD, dims, query_gain, cosines, sines, HEAD, EPSILON, HEAD_NORM, ROPE)
            query = query * (scaling * LOG2E)
            peak = tl.where(is_first, tl.sum(query * key.to(tl.float32), 0), float("-inf"))
            weight = tl.where(is_first, 1.0, 0.0)
            total = tl.where(is_first, value.to(tl.float32), 0.0)
            peak, weight, total = attended(query, key_tile, value_tile, positions < position, peak, weight, total)
            for begin in tl.range((part + SPLITS) * BLOCK, position, SPLITS * BLOCK):
                later = begin + tl.arange(0, BLOCK)
                inside = (later < position)[:, None] & in_head[None, :]
                places = cached + later[:, None] * HEAD + dims[None, :]
                keys_here = tl.load(keys + places, mask=inside, other=0.0)
                values_here = tl.load(values + places, mask=inside, other=0.0)
                peak, weight, total = attended(query, keys_here, values_here, later < position, peak, weight, total)
            if parts == 1:
                tl.store(out + number * HEAD + dims, (total / weight).to(out.dtype.element_ty), mask=in_head)
            else:
                at = number * SPLITS + part
                tl.store(peaks + at, peak)
                tl.store(weights + at, weight)
                tl.store(sums + at * DIMS + dims, total)
        if SPLITS > 1:  # noqa: SIM102 - decided while compiling, what follows while running
            if parts > 1:
                tl.debug_barrier()
                last = tl.atomic_add(arrived + group, 1, sem="acq_rel") == parts - 1
                tl.debug_barrier()
                if last:
                    tl.store(arrived + group, 0)
                    for member in tl.static_range(MEMBERS):
                        number = group * MEMBERS + member
                        total = together(sums, peaks, weights, number * SPLITS, parts, dims, DIMS, TOGETHER)
                        tl.store(out + number * HEAD + dims, total.to(out.dtype.element_ty), mask=in_head)


@triton.jit
def together(sums, peaks, weights, first, parts, dims, DIMS: tl.constexpr, TOGETHER: tl.constexpr):
    """What a head attends to (dims), of its parts' softmaxes, `first` being the place of the first part."""
    peak = float("-inf")
    weight = 0.0
    total = tl.zeros((DIMS,), tl.float32)
    for begin in tl.range(0, parts, TOGETHER):
        others = begin + tl.arange(0, TOGETHER)
        known = others < parts
        at = first + others
        its_peak = tl.load(peaks + at, mask=known, other=float("-inf"), cache_modifier=".cg")
        its_weight = tl.load(weights + at, mask=known, other=0.0, cache_modifier=".cg")
        its_total = tl.load(
            sums + at[:, None] * DIMS + dims[None, :], mask=known[:, None], other=0.0, cache_modifier=".cg"
        )
        higher = tl.maximum(peak, tl.max(its_peak, 0))
        shrink = tl.exp2(peak - higher)
        its_shrink = tl.exp2(its_peak - higher)
        weight = weight * shrink + tl.sum(its_weight * its_shrink, 0)
        total = total * shrink + tl.sum(its_total * its_shrink[:, None], 0)
        peak = higher
    return total / weight

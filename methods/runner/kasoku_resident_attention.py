"""Attention of one token to all before it, as a Triton kernel over a cache that is as long as a request may become.

Imported once Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl
from kasoku_resident_products import INTERPRETED, enter, fetched
from kasoku_resident_state import POSITION

POSITION_AT = tl.constexpr(POSITION)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def turned(
    vector,
    places,
    dims,
    there,
    gain,
    cosines,
    sines,
    position,
    HEAD: tl.constexpr,
    EPSILON: tl.constexpr,
    HEAD_NORM: tl.constexpr,
    ROPE: tl.constexpr,
):
    """Heads (n, dims) of a query or key: normed, if they are, and turned by the rotary embedding of `position`.

    A dimension's partner is half a head away (transformers' rotate_half).
    """
    values = tl.load(vector + places, mask=there, other=0.0)
    rate = tl.sum(values * 0.0, 1) + 1.0
    if HEAD_NORM:
        rate = 1.0 / tl.sqrt(tl.sum(values * values, 1) / HEAD + EPSILON)
        values = values * rate[:, None] * tl.load(gain + dims, mask=dims < HEAD, other=0.0).to(tl.float32)[None, :]
    if ROPE:
        half = HEAD // 2
        partners = tl.where(dims < half, dims + half, dims - half)
        others = tl.load(vector + places + (partners - dims)[None, :], mask=there, other=0.0)
        if HEAD_NORM:
            others *= rate[:, None] * tl.load(gain + partners, mask=dims < HEAD, other=0.0).to(tl.float32)[None, :]
        row = position * HEAD
        cosine = tl.load(cosines + row + dims, mask=dims < HEAD, other=0.0)
        sine = tl.load(sines + row + dims, mask=dims < HEAD, other=0.0)
        values = values * cosine[None, :] + others * tl.where(dims < half, -sine, sine)[None, :]
    return values


@triton.jit
def multiplied(left, right):
    """float32 `left` (n, k) · `right` (k, m) of a shorter type. As two numbers of that type, whose sum has twice its
    digits, `left` loses nothing on the tensor cores; Triton's interpreter multiplies float32 alone.
    """
    if not INTERPRETED:
        high = left.to(right.dtype)
        low = (left - high.to(tl.float32)).to(right.dtype)
        found = tl.dot(high, right) + tl.dot(low, right)
    else:
        found = tl.dot(left, right.to(tl.float32), input_precision="ieee")
    return found


@triton.jit
def attended(query, key_tile, value_tile, before, peak, weight, total):
    """The softmax so far with a block of positions more: highest scores, denominators and numerators, by head."""
    scores = tl.where(before[None, :], multiplied(query, tl.trans(key_tile)), float("-inf"))
    higher = tl.maximum(peak, tl.max(scores, 1))
    shrink = tl.exp2(peak - higher)
    shares = tl.exp2(scores - higher[:, None])
    value_tile = tl.where(before[:, None], value_tile, 0.0).to(value_tile.dtype)
    total = total * shrink[:, None] + multiplied(shares, value_tile)
    return higher, weight * shrink + tl.sum(shares, 1), total


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
    ahead,
    scaling,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    LENGTH: tl.constexpr,
    EPSILON: tl.constexpr,
    HEAD_NORM: tl.constexpr,
    ROPE: tl.constexpr,
    GROUP: tl.constexpr,
    DIMS: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    TOGETHER: tl.constexpr,
    AHEAD: tl.constexpr,
    BYTES: tl.constexpr,
    PDL: tl.constexpr,
):
    """Of the token's queries, keys and values in `qkv`: write keys and values to the cache (KV_HEADS, LENGTH, HEAD),
    and what the heads attend to, in the model's type, to `out` (HEADS, HEAD).

    A program has a head of keys and every `SPLITS`th block of the positions before the token, of which it loads the
    first before it waits: only the token's own place changes in a step. The first part has the token itself, so that
    none reads what another writes. `GROUP` and `DIMS` are the powers of two, 16 at least, that hold the heads of
    queries to a head of keys and a head's dimensions. Where several programs share a head, the last one to arrive puts
    the parts together, `TOGETHER` at a time: `sums`, `peaks` and `weights` are a softmax's numerators, highest scores
    and denominators, by head and part. As attention leaves the memory idle, `AHEAD` programs more a head fetch the
    first of the `BYTES` of the matrix `ahead`, which comes after the next one.
    """
    head = tl.program_id(0)
    part = tl.program_id(1)
    EACH: tl.constexpr = HEADS // KV_HEADS
    members = tl.arange(0, GROUP)
    dims = tl.arange(0, DIMS)
    in_head = dims < HEAD
    there = (members < EACH)[:, None] & in_head[None, :]
    query_places = (head * EACH + members)[:, None] * HEAD + dims[None, :]
    one = tl.arange(0, 1)
    key_places = (HEADS + head + one)[:, None] * HEAD + dims[None, :]
    value_places = (HEADS + KV_HEADS + head) * HEAD + dims
    cached = head.to(tl.int64) * LENGTH * HEAD
    positions = part * BLOCK + tl.arange(0, BLOCK)
    places = cached + positions[:, None] * HEAD + dims[None, :]
    inside = (positions < LENGTH)[:, None] & in_head[None, :]
    key_tile = tl.load(keys + places, mask=inside, other=0.0)
    value_tile = tl.load(values + places, mask=inside, other=0.0)
    if AHEAD > 0:  # noqa: SIM102 - decided while compiling, what follows while running
        if part >= SPLITS:
            fetched(ahead, (part - SPLITS) * KV_HEADS + head, BYTES)

    enter(PDL)
    position = tl.load(state + POSITION_AT).to(tl.int32)
    parts = tl.maximum(tl.minimum(tl.cdiv(position, BLOCK), SPLITS), 1)
    if part < parts:
        query = turned(
            qkv, query_places, dims, there, query_gain, cosines, sines, position, HEAD, EPSILON, HEAD_NORM, ROPE
        )
        query = query * (scaling * LOG2E)
        if part == 0:
            key = turned(
                qkv, key_places, dims, in_head[None, :], key_gain, cosines, sines, position, HEAD, EPSILON, HEAD_NORM,
                ROPE,
            )  # fmt: skip
            key = tl.sum(key, 0).to(keys.dtype.element_ty)
            value = tl.load(qkv + value_places, mask=in_head, other=0.0).to(values.dtype.element_ty)
            own = cached + position * HEAD + dims
            tl.store(keys + own, key, mask=in_head)
            tl.store(values + own, value, mask=in_head)
            peak = tl.sum(query * key.to(tl.float32)[None, :], 1)
            weight = peak * 0.0 + 1.0
            total = query * 0.0 + value.to(tl.float32)[None, :]
        else:
            peak = tl.sum(query * 0.0, 1) + float("-inf")
            weight = tl.sum(query * 0.0, 1)
            total = query * 0.0
        peak, weight, total = attended(query, key_tile, value_tile, positions < position, peak, weight, total)
        for begin in tl.range((part + SPLITS) * BLOCK, position, SPLITS * BLOCK):
            positions = begin + tl.arange(0, BLOCK)
            before = positions < position
            places = cached + positions[:, None] * HEAD + dims[None, :]
            inside = before[:, None] & in_head[None, :]
            key_tile = tl.load(keys + places, mask=inside, other=0.0)
            value_tile = tl.load(values + places, mask=inside, other=0.0)
            peak, weight, total = attended(query, key_tile, value_tile, before, peak, weight, total)
        last = True
        if SPLITS > 1:  # noqa: SIM102 - decided while compiling, what follows while running
            if parts > 1:
                at = (head * SPLITS + part) * GROUP + members
                tl.store(peaks + at, peak)
                tl.store(weights + at, weight)
                tl.store(sums + at[:, None] * DIMS + dims[None, :], total)
                tl.debug_barrier()
                last = tl.atomic_add(arrived + head, 1, sem="acq_rel") == parts - 1
                tl.debug_barrier()
                if last:
                    tl.store(arrived + head, 0)
                    peak = tl.sum(query * 0.0, 1) + float("-inf")
                    weight = tl.sum(query * 0.0, 1)
                    total = query * 0.0
                    for first in tl.range(0, parts, TOGETHER):
                        others = first + tl.arange(0, TOGETHER)
                        theirs = (head * SPLITS + others)[:, None] * GROUP + members[None, :]
                        known = (others < parts)[:, None]
                        its_peak = tl.load(peaks + theirs, mask=known, other=float("-inf"), cache_modifier=".cg")
                        its_weight = tl.load(weights + theirs, mask=known, other=0.0, cache_modifier=".cg")
                        its_total = tl.load(
                            sums + theirs[:, :, None] * DIMS + dims[None, None, :],
                            mask=known[:, :, None], other=0.0, cache_modifier=".cg",
                        )  # fmt: skip
                        higher = tl.maximum(peak, tl.max(its_peak, 0))
                        shrink = tl.exp2(peak - higher)
                        its_shrink = tl.exp2(its_peak - higher[None, :])
                        weight = weight * shrink + tl.sum(its_weight * its_shrink, 0)
                        total = total * shrink[:, None] + tl.sum(its_total * its_shrink[:, :, None], 0)
                        peak = higher
        if last:
            tl.store(out + query_places, (total / weight[:, None]).to(out.dtype.element_ty), mask=there)

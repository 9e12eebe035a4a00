"""Rows of a matrix that was rounded as numbers again, for transformers' linear layers: read once and written once,
which torch would do four times.

Imported once Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl
from kasoku_resident_products import numbers

BLOCK = 4096


@triton.jit
def resident_unpack(
    stored, scales, unpacked, first, step, WIDTH: tl.constexpr, BLOCK: tl.constexpr, FORMAT: tl.constexpr
):
    """Each program a part of a row of `unpacked`: of every `step`-th row of what is stored, from the `first` one on."""
    row = tl.program_id(0).to(tl.int64)
    source = first + row * step
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = columns < WIDTH
    values = numbers(tl.load(stored + source * WIDTH + columns, mask=there), FORMAT) * tl.load(scales + source)
    tl.store(unpacked + row * WIDTH + columns, values.to(unpacked.dtype.element_ty), mask=there)


def unpacked(matrix: object, rows: slice, dtype: object) -> object:
    """Those rows of a kasoku_resident_weights.Matrix with scales: (rows, width), in `dtype`."""
    import torch

    first, end, step = rows.indices(matrix.rows)
    found = torch.empty((len(range(first, end, step)), matrix.width), dtype=dtype, device=matrix.weights.device)
    grid = (found.shape[0], triton.cdiv(matrix.width, BLOCK))
    resident_unpack[grid](matrix.weights, matrix.scales, found, first, step, matrix.width, BLOCK, matrix.format)
    return found

"""How the work of a step is divided among a GPU's programs: by default, and where it was timed, by the fastest.

Of each role's matrix a program has `rows` rows, in tiles of `tile` columns, with `warps` warps; `stages` tiles are in
flight while it goes along its rows. Where `turns` is more than 1, as it may be for the largest matrices (TURNED), a
tile is as wide as the matrix, and a program has so many tiles, one below another, of which it has `prefetch` fetched
into the L2 cache before it waits for its vector.
In attention a program has `members` heads of queries and a block of positions, or every `splits`th, and the last of
them puts `together` so many parts at a time.
"""

from __future__ import annotations

import hashlib
import json

import kasoku_kept as kept

ROLES = ("qkv", "out", "mlp", "down", "head")
TURNED = ("mlp", "head")
ELEMENTS = 8192  # of bfloat16 in a first tile, by default: 16 KB in flight for each program
WIDEST = 4096
LIKELY_PROGRAMS = 132  # an H100's multiprocessors: no fewer programs than this, where there is enough to share
BLOCK = 16  # positions in attention: as many as one warp holds in registers, of keys and values
MOST_SPLITS = 64
SHORT = 128  # scores that top-k keeps, so that a list of them is short: half as many as there are groups
SHARED_FROM = 2048  # positions from which a program reads keys and values once for all heads that share them
CANDIDATES = ((4096, 4), (8192, 4), (8192, 8), (16384, 8))  # elements of a tile, of bfloat16; warps
TURNING = ((8192, 4, 4, 3), (8192, 8, 4, 3), (16384, 8, 3, 2), (16384, 8, 4, 1))  # stages, programs a multiprocessor
WIDEST_KEPT = 16384  # of a vector that a program keeps: 64 registers of each of 256 threads
SHARED_BYTES = 224 << 10  # of a multiprocessor's 228 KB


def default(matrix: object, interpreted: bool) -> dict:
    """The knobs of a matrix that was never timed. The interpreter runs one program after another: few, large ones."""
    tile = min(power_of_two(matrix.width), WIDEST)
    return of_elements(matrix, ELEMENTS * (16 if interpreted else 1), tile, 4)


def of_elements(matrix: object, elements: int, tile: int, warps: int) -> dict:
    """With so many elements in a tile, or twice as many of a byte each."""
    elements = elements * 2 // matrix.weights.element_size()
    rows = max(2, min(elements // tile, power_of_two(matrix.rows)))
    while rows > 2 and matrix.rows // rows < LIKELY_PROGRAMS and elements <= ELEMENTS * 2:
        rows //= 2
    return {"rows": rows, "turns": 1, "tile": tile, "stages": 2, "prefetch": 0, "warps": warps}


def turning(matrix: object, elements: int, warps: int, stages: int, programs: int) -> dict | None:
    """So many programs a multiprocessor, which go through all rows; None for a matrix too wide or too low for that."""
    tile, size = power_of_two(matrix.width), matrix.weights.element_size()
    rows = max(2, min(elements * 2 // size // tile, power_of_two(matrix.rows)))
    turns = -(-matrix.rows // (rows * LIKELY_PROGRAMS * programs))
    if turns < 2 or tile > WIDEST_KEPT or rows * tile * size * stages > SHARED_BYTES:
        return None
    return {"rows": rows, "turns": turns, "tile": tile, "stages": stages, "prefetch": stages - 1, "warps": warps}


def of_attention(shape: object, length: int, interpreted: bool) -> dict:
    """A block of positions is what one warp can hold of keys and values; as many programs as there are blocks."""
    each = shape.heads // shape.kv_heads
    shared = length > SHARED_FROM
    block, most = (128, 2) if interpreted else (BLOCK * (2 if shared else 1), MOST_SPLITS)
    splits = min(-(-length // block), most)
    return {
        "members": each if shared or interpreted else 1, "block": block, "splits": splits,
        "together": min(32, power_of_two(splits)), "warps": 4 if shared else 1,
    }  # fmt: skip


def of_choice(vocabulary: int, interpreted: bool) -> dict:
    """Of the kernels that go along the scores: `block` scores for each program."""
    return {"block": min(power_of_two(vocabulary), 65536 if interpreted else 1024), "warps": 8}


def candidates(role: str, matrix: object) -> list:
    """Knobs worth timing, the default first."""
    found = [default(matrix, interpreted=False)]
    widest, whole = power_of_two(matrix.width), matrix.width & -matrix.width  # a tile that no row ends within
    for elements, warps in CANDIDATES:
        for tile in sorted({min(widest, each) for each in (max(512, whole), 1024, WIDEST, 2 * WIDEST)}):
            knobs = of_elements(matrix, elements, tile, warps)
            if knobs not in found:
                found.append(knobs)
    turns = [turning(matrix, *how) for how in TURNING] if role in TURNED else []
    return found + [each for each in turns if each is not None]


def power_of_two(number: int) -> int:
    """The least that is not below it."""
    return 1 << (number - 1).bit_length()


class Table:
    """What was fastest, by card, versions and matrix: a file beside what Triton compiled, so that it is timed once."""

    def __init__(self, card: str) -> None:
        self._name = "kasoku-resident-%s.json" % hashlib.sha256(card.encode()).hexdigest()[:12]
        self._known: dict = {}
        try:
            self._known = dict(json.loads(kept.read(self._name) or b"{}"))
        except (ValueError, TypeError):
            self._known = {}  # timed again

    def of(self, role: str, matrix: object) -> dict | None:
        """The knobs of a matrix in a role, None where it was not timed."""
        found = self.kept(key_of(role, matrix))
        return found if found is not None and set(found) == set(default(matrix, interpreted=False)) else None

    def kept(self, key: str) -> dict | None:
        """What is known under a name."""
        found = self._known.get(key)
        return found if isinstance(found, dict) else None

    def keep(self, key: str, knobs: dict) -> None:
        self._known[key] = knobs
        kept.keep(self._name, json.dumps(self._known).encode())


def key_of(role: str, matrix: object) -> str:
    return "%s %dx%d %s" % (role, matrix.rows, matrix.width, str(matrix.weights.dtype))

"""A point of a load in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.verdict.load_row import LoadRow


def point_text(row: LoadRow) -> str:
    """How requests arrive, and how long they are: "c8: 8 in flight, 512/128"."""
    if row.rate is not None:
        shape = "" if row.burstiness in (None, 1.0) else f", burstiness {row.burstiness:g}"
        how = f"{row.rate:g} requests/s{shape}"
    elif row.concurrency is not None:
        how = f"{row.concurrency} in flight"
    else:
        how = f"batch of {row.batch}" if row.batch is not None and row.batch > 1 else "one at a time"
    lengths = f"{row.isl or '?'}/{row.osl or '?'} tokens"
    depth = f" at depth {row.depth}" if row.depth else ""
    return one_line(f"{how}, {lengths}{depth}{' (primary)' if row.primary else ''}", 60)

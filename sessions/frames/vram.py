"""How much GPU memory a block used, from NVML's readings around it.

What is subtracted is the least in use while the runner imported its packages, before it loads anything: at the moment a
block begins, the driver may still count what the process of the block before it held.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

SOURCE = "NVML memory in use, minus the minimum before loading"


def peak_vram(
    telemetry: pl.DataFrame, gpus: Sequence[str], start_ns: int, load_ns: int | None, end_ns: int | None
) -> tuple[int | None, str]:
    """Peak bytes on `gpus`, summed, with how they were found; None with the reason where they cannot be known.

    `start_ns`, `load_ns`, `end_ns`: when the block began, began to load, and ended (None: never, not yet).
    """
    if not gpus:
        return None, "no GPU was used"
    if load_ns is None:
        return None, "the block never reached loading"
    used = telemetry.filter((pl.col("metric") == "memory_used_bytes") & pl.col("value").is_not_null())
    total = 0.0
    for gpu in gpus:
        readings = used.filter(pl.col("source") == gpu)
        before = readings.filter(pl.col("t_ns").is_between(start_ns, load_ns))["value"].min()
        during = readings.filter((pl.col("t_ns") > load_ns) & (pl.col("t_ns") <= (end_ns or 2**63 - 1)))["value"].max()
        if not isinstance(before, float) or not isinstance(during, float):
            return None, f"NVML returned no memory readings for {gpu} around this block"
        total += max(0.0, during - before)
    return int(total), SOURCE

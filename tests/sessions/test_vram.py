"""The GPU memory of a block is what it took itself, not what the block before it had not given back yet."""

from __future__ import annotations

import polars as pl
import pytest

from sessions.disk.frame_schema import TELEMETRY
from sessions.frames.vram import SOURCE, peak_vram

SECOND = 1_000_000_000


def readings(*values: tuple[float, float | None], source: str = "gpu0") -> pl.DataFrame:
    """Memory in use, as (second, bytes)."""
    rows = [
        {
            "session": "s",
            "t_ns": int(second * SECOND),
            "source": source,
            "metric": "memory_used_bytes",
            "unit": "bytes",
            "value": value,
            "call_us": 7.0,
            "status": "ok" if value is not None else "lost",
        }
        for second, value in values
    ]
    return pl.DataFrame(rows, schema=TELEMETRY)


def test_memory_that_the_block_before_still_holds_is_not_subtracted() -> None:
    # as an H200 showed it: the driver still counts the last process for a moment after it ended
    telemetry = readings(
        (9.9, 4e9), (10.0, 4e9), (10.1, 0.5e9), (11.9, 0.5e9), (13.0, 3.0e9), (15.0, 4.0e9), (20.1, 0.5e9)
    )
    assert peak_vram(telemetry.lazy(), ["gpu0"], 10 * SECOND, 12 * SECOND, 20 * SECOND) == (3_500_000_000, SOURCE)


def test_several_gpus_are_summed() -> None:
    telemetry = pl.concat(
        [
            readings((10.5, 1e9), (13.0, 3e9)),
            readings((10.5, 2e9), (13.0, 5e9), source="gpu1"),
            readings((10.5, 0.0), (13.0, 9e9), source="gpu2"),
        ]
    )
    assert peak_vram(telemetry.lazy(), ["gpu0", "gpu1"], 10 * SECOND, 12 * SECOND, None) == (5_000_000_000, SOURCE)


@pytest.mark.parametrize(
    ("gpus", "load_s", "telemetry", "reason"),
    [
        ([], 12, readings((10.5, 1e9)), "no GPU was used"),
        (["gpu0"], None, readings((10.5, 1e9), (13.0, 2e9)), "the block never reached loading"),
        (["gpu0"], 12, readings((13.0, 2e9)), "NVML returned no memory readings for gpu0 around this block"),
        (
            ["gpu0"],
            12,
            readings((10.5, 1e9), (13.0, None)),
            "NVML returned no memory readings for gpu0 around this block",
        ),
    ],
)
def test_what_cannot_be_known_is_none_with_its_reason(
    gpus: list[str], load_s: int | None, telemetry: pl.DataFrame, reason: str
) -> None:
    load_ns = None if load_s is None else load_s * SECOND
    assert peak_vram(telemetry.lazy(), gpus, 10 * SECOND, load_ns, 20 * SECOND) == (None, reason)

"""How fast a device reads and copies its memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBandwidth:
    """Bytes a second as measured, of several GPUs the sum; None where they could not be, for `reason`.

    buffer_bytes: what was read; devices: how many were measured; torch: the version that did; key: the device's name
    in the cache.
    """

    read_bytes_s: float | None = None
    copy_bytes_s: float | None = None
    buffer_bytes: int | None = None
    devices: int | None = None
    torch: str = ""
    key: str = ""
    reason: str = ""

"""A runner that contradicts itself."""

from __future__ import annotations


class WireLieError(Exception):
    """The runner's messages contradict each other; the text says how."""


def check_not_before(t: int, earlier: int) -> None:
    if t < earlier:
        raise WireLieError(f"its clock ran backwards by {(earlier - t) / 1e9:.3f} s")


def check_not_after(t: int, now_ns: int) -> None:
    if t > now_ns:
        raise WireLieError(f"it reported a time {(t - now_ns) / 1e9:.3f} s in the future")

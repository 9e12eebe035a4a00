"""The bits of NVML's clocks event reasons (formerly throttle reasons), in words."""

from __future__ import annotations

from typing import Final

# Bit values of nvml.h, nvmlClocksEventReason*. Idle and chosen clocks are states, the others take speed away.
WORDS: Final[dict[int, str]] = {
    0x001: "idle",
    0x002: "application clocks set",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal slowdown by software",
    0x040: "thermal slowdown by hardware",
    0x080: "power brake",
    0x100: "display clocks set",
    0x200: "board limit",
    0x400: "reliability voltage limit",
}
SLOWING: Final = 0x004 | 0x008 | 0x020 | 0x040 | 0x080 | 0x200 | 0x400


def throttle_words(mask: float) -> tuple[str, ...]:
    """The reasons in `mask`, lowest bit first, none when nothing holds the GPU back; unknown bits show as a value."""
    bits = int(mask)
    known = tuple(words for bit, words in WORDS.items() if bits & bit)
    rest = bits & ~sum(WORDS)
    return (*known, f"unknown reason {rest:#x}") if rest else known


def slows(mask: float) -> bool:
    """Whether `mask` holds a reason that takes speed away: a power or thermal limit, not idleness nor chosen clocks."""
    return bool(int(mask) & SLOWING)

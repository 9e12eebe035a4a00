"""Nats a token, and shares of tokens that flip, as text."""

from __future__ import annotations

from typing import Final

MINUS: Final = "\N{MINUS SIGN}"


def nats(value: float) -> str:
    """With the digits that matter: −0.0012, 0.021, 1.84."""
    size = abs(value)
    text = f"{size:.{4 if size < 0.00995 else 3 if size < 0.995 else 2}f}"
    return MINUS + text if value < 0 and float(text) else text


def nats_range(low: float, high: float) -> str:
    """Both ends; with a word between them where a dash would read as a sign."""
    return f"{nats(low)} to {nats(high)}" if low < 0 else f"{nats(low)}–{nats(high)}"


def flipped(share: float) -> str:
    """A percentage with two digits that matter, and never 0 where it is not."""
    points = 100 * share
    if points == 0 or points >= 2.95:
        return f"{points:.0f} %"
    return "under 0.1 %" if points < 0.1 else f"{points:.1f} %"

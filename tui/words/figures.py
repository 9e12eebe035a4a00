"""Numbers as the screens show them, with units. Unknown values are an en dash, never 0."""

from __future__ import annotations

from collections.abc import Sequence

UNKNOWN = "–"
_BYTE_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_LEVELS = " ▁▂▃▄▅▆▇█"


def rate(value: float | None) -> str:
    """Tokens per second, four significant figures at most."""
    if value is None:
        return UNKNOWN
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rate_with_half_width(mean: float | None, half_width: float | None) -> str:
    """A mean with the half-width of its 95 % interval, if there is one."""
    return rate(mean) if half_width is None else f"{rate(mean)} ±{rate(half_width)}"


def ratio(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """A short time in the unit a person would use: 850 µs, 14 ms, 3.2 s, 12 min, 2 h 05."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.{0 if seconds >= 0.01 else 1}f} ms"
    if seconds < 90:
        return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d}"


def time_left(seconds: float | None, most: float | None) -> str:
    """An estimate, or its range: "40 s to 3 min", "at most 5 min"; empty where nothing is known."""
    if most is None:
        return "" if seconds is None else duration(seconds)
    if seconds is None:
        return f"at most {duration(most)}"
    least, upper = duration(seconds), duration(most)
    return least if least == upper else f"{least} to {upper}"


def blocks_done(done: int, of: int | None, joint: str = "/") -> str:
    """`of` is None where there are as many as it takes."""
    return f"{done}{joint}{of} blocks" if of is not None else f"{done} block{'s' if done != 1 else ''}"


def size(count: float | None) -> str:
    """Bytes in decimal units, as drives and model cards have them: 2.97 GB."""
    if count is None:
        return UNKNOWN
    for unit, factor in _BYTE_UNITS:
        if count >= factor:
            value = count / factor
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{count:.0f} B"


def count(number: float | None) -> str:
    """A large number in the unit that model cards use: 135 M, 1.32 B."""
    if number is None:
        return UNKNOWN
    for unit, factor in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f}"


def of_total(used: float | None, total: float | None) -> str:
    """Bytes used of a total, the unit said once: 3.0/141 GB."""
    if used is None or total is None:
        return size(used)
    for unit, factor in _BYTE_UNITS:
        if total >= factor and not (total < 10 * factor and used < factor and factor > 10**3):
            part, whole = used / factor, total / factor
            return f"{part:.1f}/{whole:.{0 if whole >= 100 else 1}f} {unit}"
    return f"{used:.0f}/{total:.0f} B"


def percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f} %"


def joules_per_token(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"


def watts(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f} W"


def yes_no(value: bool | None) -> str:
    return UNKNOWN if value is None else "yes" if value else "NO"


def share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(value * 100)


def fine_ratio(value: float | None) -> str:
    """A ratio that is close to 1."""
    return UNKNOWN if value is None else f"{value:.4f}" if value < 10 else f"{value:.4g}"


def fine_share(value: float | None) -> str:
    """A share that is close to all: never 100 % where it is not."""
    if value is None or value == 1:
        return UNKNOWN if value is None else "100 %"
    return f"{min(100 * value, 99.99):.2f} %"


def bound(value: float | None) -> str:
    """A share that is a limit: as a percentage, rounded up."""
    from sessions.verdict.verdicts import percent as rounded_up

    return UNKNOWN if value is None else rounded_up(value)


def bar(share: float | None, width: int) -> tuple[str, str]:
    """A thin bar of `width` cells as its filled and its empty part; an unknown share is all empty."""
    filled = 0 if share is None else round(max(0.0, min(1.0, share)) * width)
    return "━" * filled, "─" * (width - filled)


def trend(values: Sequence[float], width: int) -> str:
    """The last values as blocks scaled from three quarters of the largest up: drift shows, noise hardly.

    Where one lies lower still, the scale begins at 0.
    """
    shown = values[-width:] if width > 0 else ()
    highest = max(shown, default=0.0)
    if highest <= 0:
        return ""
    floor = 0.75 * highest if min(shown) >= 0.75 * highest else 0.0
    return "".join(_LEVELS[max(1, min(8, round((value - floor) / (highest - floor) * 8)))] for value in shown)

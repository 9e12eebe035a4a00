"""What an engine's processes wrote to the log: they fail on their own, and their reasons are nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

FAULT = re.compile(r"(?:^|[\s\]])((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): (.+)$")
UNSUPPORTED_WORDS = (
    "does not recognize",
    "not supported",
    "is only supported",
    "unsupported",
    "does not support",
    "not a supported",
)


def own_log_size() -> int | None:
    """How much this process and its children have written to their log; None if it is not a file."""
    try:
        return Path("/proc/self/fd/2").stat().st_size
    except OSError:
        return None


def first_fault(log_began: int | None, consequences: tuple, after: str = "") -> tuple | None:
    """(exception, text) of the first exception in the log since `log_began`, and since it said `after` if it did, that
    is a cause and not one of the `consequences`.
    """
    if log_began is None:
        return None
    try:
        with open("/proc/self/fd/2", "rb") as log:  # noqa: PTH123
            log.seek(log_began)
            text = log.read(4_000_000).decode(errors="replace")
    except OSError:
        return None
    for line in text[max(0, text.find(after)) :].splitlines():
        found = FAULT.search(line)
        if found and not any(words in line for words in consequences):
            return found.group(1), found.group(2).strip()
    return None


def is_refusal(text: str) -> bool:
    """Whether a failure's words say that the engine has no such thing, rather than that it went wrong."""
    return any(words in text.lower() for words in UNSUPPORTED_WORDS)

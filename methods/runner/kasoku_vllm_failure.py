"""Why vLLM failed: its core and workers fail in processes of their own, whose reasons are only in the log."""

from __future__ import annotations

import re
from pathlib import Path

from kasoku_failure import UnsupportedError

FAULT = re.compile(r"(?:^|[\s\]])((?:\w+\.)*\w*(?:Error|Exception|Interrupt)): (.+)$")
NOT_STARTED = ("Engine core initialization failed", "WorkerProc initialization failed")
NOT_THE_CAUSE = (*NOT_STARTED, "EngineCore encountered an issue")
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


def explained(error: BaseException, log_began: int | None) -> BaseException:
    """The error that stopped vLLM. What happened in a child is only in the log: its first fault there since then."""
    text = str(error)
    if any(words in text for words in NOT_THE_CAUSE):
        fault = first_fault(log_began)
        if fault is not None:
            text = "%s: %s" % fault
            if any(words in text.lower() for words in UNSUPPORTED_WORDS):
                return UnsupportedError("vLLM cannot run this here: %s" % fault[1])
            begun = "did not start" if any(words in str(error) for words in NOT_STARTED) else "failed"
            return RuntimeError("vLLM's engine %s: %s" % (begun, text))
        return error
    value_error = re.search(r"Value error, (.+?)(?: \[type=|$)", text, re.MULTILINE)
    cause = value_error.group(1) if value_error else text.split("\n")[0]
    if isinstance(error, (ValueError, NotImplementedError)) and any(
        words in cause.lower() for words in UNSUPPORTED_WORDS
    ):
        return UnsupportedError("vLLM cannot run this here: %s" % cause)
    if value_error:
        return RuntimeError("vLLM refused: %s" % cause)
    return error


def first_fault(log_began: int | None) -> tuple | None:
    """(exception, text) of the first exception in the log since `log_began` that is a cause and not a consequence."""
    if log_began is None:
        return None
    try:
        with open("/proc/self/fd/2", "rb") as log:  # noqa: PTH123
            log.seek(log_began)
            text = log.read(4_000_000).decode(errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        found = FAULT.search(line)
        if found and not any(words in line for words in NOT_THE_CAUSE):
            return found.group(1), found.group(2).strip()
    return None

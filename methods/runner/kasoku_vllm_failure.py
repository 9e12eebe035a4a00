"""Why vLLM failed: its core and workers fail in processes of their own, whose reasons are only in the log."""

from __future__ import annotations

import re

from kasoku_engine_log import first_fault, is_refusal
from kasoku_failure import UnsupportedError

NOT_STARTED = ("Engine core initialization failed", "WorkerProc initialization failed")
NOT_THE_CAUSE = (*NOT_STARTED, "EngineCore encountered an issue")


def explained(error: BaseException, log_began: int | None) -> BaseException:
    """The error that stopped vLLM. What happened in a child is only in the log: its first fault there since then."""
    text = str(error)
    if any(words in text for words in NOT_THE_CAUSE):
        fault = first_fault(log_began, NOT_THE_CAUSE)
        if fault is not None:
            text = "%s: %s" % fault
            if is_refusal(text):
                return UnsupportedError("vLLM cannot run this here: %s" % fault[1])
            begun = "did not start" if any(words in str(error) for words in NOT_STARTED) else "failed"
            return RuntimeError("vLLM's engine %s: %s" % (begun, text))
        return error
    value_error = re.search(r"Value error, (.+?)(?: \[type=|$)", text, re.MULTILINE)
    cause = value_error.group(1) if value_error else text.split("\n")[0]
    if isinstance(error, (ValueError, NotImplementedError)) and is_refusal(cause):
        return UnsupportedError("vLLM cannot run this here: %s" % cause)
    if value_error:
        return RuntimeError("vLLM refused: %s" % cause)
    return error

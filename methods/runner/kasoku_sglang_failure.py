"""How SGLang's processes fail: they signal this one, whose handlers by SGLang end it with everything it knows.

Here the signal becomes an exception, and what the process that failed had to say is looked up in the log.
"""

from __future__ import annotations

import os
import signal

from kasoku_engine_log import first_fault, is_refusal
from kasoku_failure import UnsupportedError

CHILD_FAILED = "One of SGLang's processes failed"
CONSEQUENCES = (CHILD_FAILED, "died during initialization", "Initialization failed. Please see")
TOLD = "hit an exception"  # before the traceback of the process that failed
SIGNALLED: list = []


def child_failed(signum: int, frame: object) -> None:  # noqa: ARG001
    """SIGQUIT's handler while SGLang starts. Its processes import it, too. One failure raises once."""
    if not SIGNALLED:
        SIGNALLED.append(signum)
        raise RuntimeError(CHILD_FAILED + ".")


class SignalHandlers:
    """In the place of SGLang's own while its event loop runs. `failed()` is called when a process has failed."""

    def __init__(self, failed: object) -> None:
        self.failed = failed

    def sigterm_handler(self) -> None:
        """End as any process does: SGLang's waits for requests to finish."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def running_phase_sigquit_handler(self) -> None:
        self.failed()


def explained(error: BaseException, log_began: int | None) -> BaseException:
    """The error that stopped SGLang. What happened in a child is only in the log: its first fault there since then."""
    text = str(error)
    if any(words in text for words in CONSEQUENCES):
        fault = first_fault(log_began, CONSEQUENCES, TOLD)
        if fault is None:
            return error
        if is_refusal("%s: %s" % fault):
            return UnsupportedError("SGLang cannot run this here: %s" % fault[1])
        return RuntimeError("SGLang failed: %s: %s" % fault)
    said = text.split("\n", maxsplit=1)[0]
    if isinstance(error, (ValueError, NotImplementedError)) and is_refusal(said):
        return UnsupportedError("SGLang cannot run this here: %s" % said)
    return error

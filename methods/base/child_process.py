"""A program that works for us for a while: its output by lines, and nothing of it left when we stop or are killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

BEAT_SECONDS = 0.5
LONGEST_LINE = 1 << 20

# The kernel ends the program with the thread that started it, also when that one is killed outright. Set in a small
# Python before exec, because code between fork and exec is not safe in a process that has threads.
_PACT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.stderr.write("%s cannot be run: %s\\n" % (sys.argv[2], error.strerror))
    os._exit(127)
"""


@contextmanager
def running(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    folder: Path,
    output: int | IO[bytes],
    keep: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` (its first word an absolute path) in a process group of its own, which is killed on the way out.

    stdout and stderr both go to `output`; the descriptors `keep` are inherited.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PACT, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        cwd=folder,
        pass_fds=keep,
        start_new_session=True,
        umask=0o077,  # what it writes, it writes for us
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def lines(descriptor: int) -> Iterator[str | None]:
    """The lines of a pipe as they come, and None whenever half a second brought none; ends with the last writer."""
    kept = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], BEAT_SECONDS)
        if not ready:
            yield None
            continue
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        *whole, kept = (kept + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
        if len(kept) > LONGEST_LINE:
            yield kept.decode(errors="replace")
            kept = b""
    if kept:
        yield kept.decode(errors="replace")

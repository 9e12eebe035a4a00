"""What runs on a host for as long as somebody looks: an actor of Ray's, shipped there as it stands here.

Standard library only, since it is sent by value. The host's own Kasoku is asked by starting its `errands`, a process
that ends with its answer, so that Ray is not the parent of a conductor. What goes in and out is text, bytes and
numbers.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ERRANDS = "sessions.hosts.errands"
ABSENT, SILENT = 1001, 1002  # in place of an errand's exit code: there is no Kasoku here; it took too long
GONE, OTHER = -1, -2  # in place of whether a conductor is at work: no such session; its journal begins otherwise
POLL_S = 0.05
REQUEST_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-")


class AtHost:
    """Looks at sessions of this host, and has its Kasoku run errands."""

    def errand(self, verb: str, asked: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        """Run one errand of Kasoku here with `asked` as its input: its exit code, ABSENT or SILENT, its output and its
        last words."""
        found = importlib.util.find_spec("kasoku")
        if found is None or not found.origin:
            return ABSENT, sys.executable.encode(), b""
        try:
            done = subprocess.run(
                [sys.executable, "-P", found.origin, ERRANDS, verb],
                input=asked,
                capture_output=True,
                timeout=timeout_s,
                check=False,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return SILENT, b"", b""
        return done.returncode, done.stdout, done.stderr[-2000:]

    def look(
        self, folder: str, offset: int, check: str, seen: int, limit: int, pause_s: float, wait_s: float
    ) -> tuple[bytes, bytes, int, int]:
        """What a session has gained: whole lines of its journal from `offset` on, at most `limit` bytes; session.json,
        if it has changed since `seen`; when it changed (ns); whether a conductor is at work (1, 0), GONE where the
        folder is, or OTHER where the journal's first `offset` bytes are not those whose SHA-256 is `check`, if given.

        Returns after `pause_s` if there is anything, else after `wait_s`.
        """
        path = Path(folder) / "journal.ndjson"
        if check and _digest(path, offset) != check:
            return b"", b"", 0, OTHER
        time.sleep(pause_s)
        until = time.monotonic() + wait_s
        while os.path.isdir(folder):
            live = _is_live(folder)  # before the files: what a conductor that ends wrote last is then in them
            changed, said = _session(folder, seen)
            lines, size = _lines(path, offset, limit)
            if size < offset:
                return b"", b"", 0, OTHER
            if lines or said or not live or time.monotonic() >= until:
                return lines, said, changed, int(live)
            time.sleep(POLL_S)
        return b"", b"", 0, GONE

    def ask(self, folder: str, action: str) -> int:
        """Drop a request file into a session's folder; 0 where that cannot be."""
        if not action or action.startswith(".") or not REQUEST_CHARACTERS.issuperset(action):
            return 0
        try:
            requests = Path(folder) / "requests"
            requests.mkdir(mode=0o700, exist_ok=True)
            (requests / action).touch(mode=0o600)
        except OSError:
            return 0
        return 1


def _digest(path: Path, size: int) -> str:
    """SHA-256 of a file's first `size` bytes; "" where it has not so many."""
    summed = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while size > 0 and (part := file.read(min(size, 1 << 20))):
                summed.update(part)
                size -= len(part)
    except OSError:
        return ""
    return summed.hexdigest() if size == 0 else ""


def _environment() -> dict[str, str]:
    """The variables with which Ray was started here, without those that Ray sets for its workers: these hide the GPUs
    and leave one thread."""
    try:
        with Path(f"/proc/{int(os.environ['RAY_RAYLET_PID'])}/environ").open("rb") as told:
            pairs = [os.fsdecode(each).partition("=") for each in told.read().split(b"\0") if each]
        found = {name: value for name, _, value in pairs}
    except (OSError, KeyError, ValueError):
        hidden = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        found = {name: value for name, value in os.environ.items() if name not in hidden or value not in ("", "1")}
    return {name: value for name, value in found.items() if not name.startswith("RAY_")}


def _is_live(folder: str) -> bool:
    try:
        lock = os.open(Path(folder) / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks there: then nothing was begun
        return False
    finally:
        os.close(lock)
    return False


def _session(folder: str, seen: int) -> tuple[int, bytes]:
    try:
        with (Path(folder) / "session.json").open("rb") as file:
            changed = os.fstat(file.fileno()).st_mtime_ns
            return changed, file.read() if changed != seen else b""
    except OSError:
        return seen, b""


def _lines(path: Path, offset: int, limit: int) -> tuple[bytes, int]:
    """Whole lines from `offset` on, or a part of one that is longer than `limit`; and the file's size."""
    try:
        with path.open("rb") as journal:
            size = os.fstat(journal.fileno()).st_size
            journal.seek(offset)
            part = journal.read(limit)
    except OSError:
        return b"", 0
    end = part.rfind(b"\n") + 1
    return (part if not end and len(part) == limit else part[:end]), size

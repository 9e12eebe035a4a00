"""The descendants of this process: engines start them, and none outlives the block.

A copy of its own: the runner may run in any Python from 3.9 on, where nothing of the workbench can be imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path


def descendants(pid: int) -> list:
    """The process ids below a process, from /proc."""
    found = []
    try:
        tasks = list(Path("/proc/%d/task" % pid).iterdir())
    except OSError:
        return found
    for task in tasks:
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def end_descendants() -> None:
    """Kill every descendant: compiler pools, engine cores, and last the tracker of shared memory.

    The tracker cleans up and exits on its own once its pipe is closed everywhere.
    """
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    tracker_pid = getattr(tracker, "_pid", None)
    for pid in descendants(os.getpid()):
        if pid != tracker_pid:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):  # a child's child is not ours to wait for
                os.waitpid(pid, 0)
    if tracker_pid is not None:
        with contextlib.suppress(OSError, AttributeError):
            tracker._stop()

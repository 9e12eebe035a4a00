"""Which processes descend from given ones.

Not by a pass over all of /proc, as the warden does it: this is called while a request is timed, and takes 0.12 ms for
five children on a machine with 190 processes, where a pass takes 15.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Final

from probes.host.proc_files import parse_stat

LONGEST_BYTES: Final = 1 << 16


def descendants(pids: Collection[int]) -> list[int]:
    """The children of `pids`, their children and so on, without `pids` themselves; parents before their children.

    From the kernel's lists of children, one a thread; where it keeps none, from the parents of all processes.
    """
    has_lists = os.path.exists("/proc/thread-self/children")
    return _closure(pids, listed_children if has_lists else scanned_children())


def _closure(pids: Collection[int], children: Callable[[int], list[int]]) -> list[int]:
    known, found = set(pids), list(pids)
    for pid in found:  # it grows meanwhile
        new = [child for child in children(pid) if child not in known]
        known.update(new)
        found += new
    return found[len(pids) :]


def listed_children(pid: int) -> list[int]:
    """The children of `pid` by the kernel's lists; none where it has ended."""
    tasks = f"/proc/{pid}/task"
    try:
        threads = os.listdir(tasks)  # noqa: PTH208 - as text, and one a thread
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        try:
            found += map(int, _content(f"{tasks}/{thread}/children").split())
        except (OSError, ValueError):  # a thread that ended meanwhile
            continue
    return found


def scanned_children() -> Callable[[int], list[int]]:
    """The children of a process by the parents of all processes as of now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal():
            try:
                parent = parse_stat(_content(f"/proc/{name}/stat")).parent
            except (OSError, ValueError):  # it ended meanwhile, or is hidden from this user
                continue
            children.setdefault(parent, []).append(int(name))
    return lambda pid: children.get(pid, [])


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, LONGEST_BYTES)
    finally:
        os.close(descriptor)

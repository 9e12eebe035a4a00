"""The sockets of some processes: where they listen, and which of these other machines can reach.

From /proc, each table of the kernel's once: psutil reads all of them for every process, and the two of TCP, which the
kernel walks its hash tables for, took 3.5 ms each.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TABLES: Final = ("tcp", "tcp6", "udp", "udp6")
ESTABLISHED, LISTENING = "01", "0A"  # include/net/tcp_states.h
NOT_ALLOWED: Final = "the sockets of a process that belongs to another user are not visible"

NAMED: Final = 3  # addresses at most, where a sentence names them; an engine over several GPUs opens a dozen

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Sockets:
    """Addresses as people write them, `0.0.0.0:1234` or `[::1]:1234 (UDP)`, sorted, each once.

    `listening` takes in TCP sockets that listen and UDP sockets without a peer; `beyond` are those of them that are not
    bound to loopback; `connected` are the peers of TCP connections to other machines. `reason` says what is unknown.
    """

    listening: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    connected: tuple[str, ...] = ()
    reason: str = ""

    def beyond_in_words(self) -> str:
        """Those that others can reach: all of them, or the first few and how many more."""
        named, more = self.beyond[:NAMED], len(self.beyond) - NAMED
        return f"listens on {', '.join(named)}" + (f" and {more} more" if more > 0 else "")


def sockets_of(pids: Iterable[int], published: Iterable[tuple[str, int]] = ()) -> Sockets:
    """The sockets that these processes hold now. A process that has ended holds none.

    Those that listen in a network of their own, a container's, can be reached at the `published` addresses alone, which
    count in their place. Whom they are connected to counts in any network.
    """
    held: dict[str, tuple[int, set[str]]] = {}  # network namespace -> a process in it, the inodes of all sockets
    reason = ""
    for pid in pids:
        try:
            inodes = _inodes(pid)
            if inodes:
                held.setdefault(_network(pid), (pid, set()))[1].update(inodes)
        except PermissionError:
            reason = NOT_ALLOWED
        except OSError:
            continue
    listening: set[str] = set()
    beyond: set[str] = set()
    connected: set[str] = set()
    for host, port in published:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(host)
            listening.add(_written(address, port))
            if not is_loopback(address):
                beyond.add(_written(address, port))
    own = _network(os.getpid()) if held else ""
    for network, (pid, inodes) in held.items():
        for table in TABLES:
            udp = table.startswith("udp")
            for local, remote, state in _rows(pid, table, inodes):
                if state == LISTENING or (udp and state != ESTABLISHED):
                    if network != own:
                        continue
                    written = _written(*local) + (" (UDP)" if udp else "")
                    listening.add(written)
                    if not is_loopback(local[0]):
                        beyond.add(written)
                elif not udp and state == ESTABLISHED and not is_loopback(remote[0]):
                    connected.add(_written(*remote))
    return Sockets(tuple(sorted(listening)), tuple(sorted(beyond)), tuple(sorted(connected)), reason)


def listening_on(port: int) -> set[int]:
    """The processes that listen on that TCP port, as far as this user may see."""
    found = set()
    try:
        entries = os.listdir("/proc")  # noqa: PTH208 - names, not paths
    except OSError:
        entries = []
    for entry in entries:
        if entry.isdigit():
            with contextlib.suppress(OSError):
                inodes = _inodes(int(entry))
                rows = [row for table in ("tcp", "tcp6") for row in _rows(int(entry), table, inodes)]
                if any(local[1] == port and state == LISTENING for local, _, state in rows):
                    found.add(int(entry))
    return found


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach it; IPv4-mapped IPv6 addresses count as IPv4."""
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def _network(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115


def _inodes(pid: int) -> set[str]:
    found = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names, not paths
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    return found


def _rows(pid: int, table: str, inodes: set[str]) -> Iterator[tuple[tuple[Address, int], tuple[Address, int], str]]:
    """(local, remote, state) of the sockets with these inodes, as the process's network namespace lists them."""
    try:
        lines = Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    except (OSError, ValueError):  # no IPv6 here, or the process has ended
        return
    for line in lines:
        cells = line.split(None, 10)
        if len(cells) > 9 and cells[9] in inodes:
            yield _address(cells[1]), _address(cells[2]), cells[3]


def _address(text: str) -> tuple[Address, int]:
    """`0100007F:1F90` is 127.0.0.1:8080: 32-bit words in the byte order of the machine."""
    host, _, port = text.partition(":")
    raw = bytes.fromhex(host)
    if sys.byteorder == "little":
        raw = b"".join(raw[place : place + 4][::-1] for place in range(0, len(raw), 4))
    return ipaddress.ip_address(raw), int(port, 16)


def _written(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"

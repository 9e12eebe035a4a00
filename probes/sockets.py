"""The sockets of some processes: where they listen, and which of those places other machines can reach."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

NOT_ALLOWED = "the sockets of a process that belongs to another user are not told"


@dataclass(frozen=True, slots=True)
class Sockets:
    """Addresses as people write them, `0.0.0.0:1234` or `[::1]:1234 (UDP)`, sorted, each once.

    `listening` takes in TCP sockets that listen and UDP sockets without a peer; `beyond` are those of them that are not
    bound to loopback; `connected` are the peers of TCP connections to other machines. `reason` says what is not known.
    """

    listening: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    connected: tuple[str, ...] = ()
    reason: str = ""


def sockets_of(pids: Iterable[int]) -> Sockets:
    """The sockets that these processes hold now. A process that has ended holds none."""
    listening: set[str] = set()
    beyond: set[str] = set()
    connected: set[str] = set()
    reason = ""
    for pid in pids:
        try:
            found = psutil.Process(pid).net_connections("inet")
        except psutil.AccessDenied:
            reason = NOT_ALLOWED
            continue
        except (psutil.Error, OSError, ValueError, RuntimeError):  # it ended while /proc was read
            continue
        for one in found:
            udp = one.type == socket.SOCK_DGRAM
            if one.status == psutil.CONN_LISTEN or (udp and one.laddr and not one.raddr):
                written = _written(one.laddr) + (" (UDP)" if udp else "")
                listening.add(written)
                if not is_loopback(one.laddr[0]):
                    beyond.add(written)
            elif not udp and one.raddr and not is_loopback(one.raddr[0]):
                connected.add(_written(one.raddr))
    return Sockets(tuple(sorted(listening)), tuple(sorted(beyond)), tuple(sorted(connected)), reason)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; False where it is no address at all."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:127.0.0.1 is loopback too
    return bool((mapped or address).is_loopback)


def _written(address: tuple[str, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""Where a session is measured, if that is another host: host.json of its folder here.

A session with such a file has its conductor on that host; here its journal is carried in (sessions/hosts/carrier.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from methods.base.bounded_read import read_regular
from methods.base.home import write_atomically
from sessions.disk.messages import Int64

NAME: Final = "host.json"


class OnHost(msgspec.Struct, frozen=True, kw_only=True):
    """`on` is the cluster's address, ray://HEAD:PORT, `host` the name given, `resource` what of the cluster it has.

    `folder` is the session's folder on the host; `lost_ns`, wall-clock ns since the epoch, is since when the host is
    out of reach, None where it is not.
    """

    on: str
    host: str
    resource: str
    folder: str
    lost_ns: Int64 | None = None


def host_of(session: Path) -> OnHost | None:
    """What the folder of a session here says of its host; None where it is measured here, or the file is damaged."""
    try:
        return msgspec.json.decode(read_regular(session / NAME, links=False), type=OnHost)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_lost(session: Path) -> bool:
    """Whether the session of a folder here is measured on a host that is out of reach."""
    host = host_of(session)
    return host is not None and host.lost_ns is not None


def write_host(session: Path, host: OnHost) -> None:
    """Replace host.json atomically. Raises HomeError."""
    write_atomically(session / NAME, msgspec.json.format(msgspec.json.encode(host), indent=1))

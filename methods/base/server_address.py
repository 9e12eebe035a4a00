"""The address of a server that somebody named."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit


class AddressError(Exception):
    """It is not the address of a server; the text says why and what would be one."""


def server_address(text: str) -> str:
    """The address without what servers' documentation puts after it (`/v1`). Raises AddressError."""
    given = text.strip()
    parts = _parts(given)
    if parts is None or parts.scheme not in ("http", "https") or "://" not in given:
        example = given if given.replace(".", "").replace(":", "").replace("-", "").isalnum() else "localhost:8000"
        raise AddressError(f"{_shown(given)} is not the address of a server: write one such as http://{example}.")
    if parts.username is not None or parts.password is not None:
        raise AddressError(
            "An address with a password in it would be kept with the session: leave it out, and name the variable that"
            " holds the key with --server-key."
        )
    if not parts.hostname or parts.query or parts.fragment or any(each.isspace() for each in given):
        raise AddressError(f"{_shown(given)} is not the address of a server: write scheme, host and port alone.")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/").removesuffix("/v1").rstrip("/")


def is_loopback(address: str) -> bool:
    """Whether the server is reached within this machine alone."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def port_of(address: str) -> int:
    """The TCP port that the address stands for."""
    parts = urlsplit(address)
    return parts.port or (443 if parts.scheme == "https" else 80)


def is_plain(address: str) -> bool:
    """Whether what goes to the server can be read on its way."""
    return urlsplit(address).scheme == "http" and not is_loopback(address)


def _parts(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is none
    except ValueError:
        return None
    return parts


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 100 else repr(text[:99] + "…")

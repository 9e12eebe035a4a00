"""The hosts that a person named, and the cluster they are in: checked as text before anything is asked of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

SCHEME: Final = "ray"
USUAL_PORT: Final = 10001
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
RESOURCE: Final = re.compile(r"[\x21-\x7e]{1,200}")


class HostError(Exception):
    """A host cannot be used, or not as asked; the message is one sentence: what is wrong, and what to do."""


def cluster_address(text: str) -> str:
    """ray://HEAD:PORT, with the usual port where none is said. Raises HostError."""
    given = text.strip()
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or parts.scheme != SCHEME or not parts.hostname or not re.fullmatch(r"[\w.:-]+", parts.hostname):
        raise HostError(
            f"--on {given[:100]!r} is not the address of a Ray cluster: write one such as ray://HEAD:10001."
        )
    if parts.username is not None or parts.password is not None:
        raise HostError("--on takes no user and no password: Ray reads its token from RAY_AUTH_TOKEN or its file.")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise HostError(f"--on {given[:100]!r} is not the address of a Ray cluster: write scheme, host and port alone.")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{SCHEME}://{name}:{port or USUAL_PORT}"


def named_hosts(said: Sequence[str], settled: Mapping[str, str]) -> dict[str, str]:
    """The resource by host: of each NAME=RESOURCE, or NAME alone where the settings have its resource; where none is
    said, all that the settings have. Raises HostError."""
    found: dict[str, str] = {}
    for text in said or settled:
        name, given, resource = text.partition("=")
        name = name.strip()
        if not given:
            if name not in settled:
                raise HostError(
                    f"--host {text[:100]!r}: write NAME=RESOURCE, or name one of the [hosts] in settings.toml."
                )
            resource = settled[name]
        resource = resource.strip()
        if not NAME.fullmatch(name) or not RESOURCE.fullmatch(resource):
            raise HostError(
                f"--host {text[:100]!r}: write NAME=RESOURCE, a name of letters and digits and one of the cluster's"
                " resources, as in h100=accelerator_type:H100."
            )
        if name in found:
            raise HostError(f"Two hosts are called {name}: give each a name of its own.")
        found[name] = resource
    if not found:
        raise HostError("--on needs a host: --host NAME=RESOURCE, or a table [hosts] in settings.toml.")
    for resource in found.values():
        alike = [name for name, own in found.items() if own == resource]
        if len(alike) > 1:
            raise HostError(f"{' and '.join(alike)} name the same host, {resource}: a host takes one session of a run.")
    return found

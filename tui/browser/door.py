"""Who is let in: whoever opens the printed link first; from then on that browser, by a cookie."""

from __future__ import annotations

import re
import secrets
from typing import Final

LOOPBACK: Final = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)


class Door:
    """The token of the link, and what it is exchanged for.

    place       the folder below which everything is: a browser sends the cookie there and to no other server of this
                machine, though it would to another port
    """

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self.place = secrets.token_urlsafe(12)
        self._cookie = secrets.token_urlsafe(32)
        self._taken = False

    def take(self, token: str) -> str | None:
        """The cookie for the token; None for another one, and when it was taken before."""
        if self._taken or not _same(token, self.token):
            return None
        self._taken = True
        return self._cookie

    def knows(self, cookie: str | None) -> bool:
        """Whether this is the cookie, and it was given."""
        return self._taken and cookie is not None and _same(cookie, self._cookie)


def _same(given: str, known: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), known.encode())


def is_ours(hosts: list[str]) -> bool:
    """Whether a request's Host headers are one that names this machine itself, on any port, as through `ssh -L`.

    A name that somebody has pointed at 127.0.0.1 meanwhile (DNS rebinding) is none.
    """
    return len(hosts) == 1 and LOOPBACK.fullmatch(hosts[0]) is not None


def is_from_the_page(origins: list[str], host: str) -> bool:
    """Whether a request's Origin headers are one that names the page of that host."""
    return len(origins) == 1 and origins[0].lower() == f"http://{host}".lower()

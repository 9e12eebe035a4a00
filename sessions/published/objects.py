"""Named objects in a shared folder or a bucket: what a store is made of, and what all kinds of it promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from sessions.disk.session_folder import SessionError


class StoreError(SessionError):
    """The store cannot be used so; the message is a sentence for people."""


class NoObjectError(StoreError):
    """There is nothing of that name."""


class Objects(Protocol):
    """Names are parts joined by `/`, of letters, digits and `._@+-`. Every call raises StoreError with a sentence."""

    @property
    def url(self) -> str:
        """What the user named it by, without any secret."""
        raise NotImplementedError

    @property
    def remark(self) -> str:
        """A sentence about how it is reached that its user should know, or ""."""
        raise NotImplementedError

    def below(self, prefix: str) -> list[str]:
        """The next part of every name that begins with `prefix` and `/` and has more parts than one after it."""
        raise NotImplementedError

    def read(self, name: str, most: int) -> bytes:
        """A whole object of at most `most` bytes. Raises NoObjectError where there is none."""
        raise NotImplementedError

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """An object of `size` bytes in parts; StoreError where it has another size. Raises NoObjectError."""
        raise NotImplementedError

    def write(self, name: str, content: bytes | Path) -> None:
        """Put an object there, whole or not at all, in the place of what has that name."""
        raise NotImplementedError

    def remove(self, names: Sequence[str]) -> None:
        """Remove these objects; those that are gone already are left out."""
        raise NotImplementedError


def other_size(name: str, url: str) -> StoreError:
    """The error of an object that is longer or shorter than it should be."""
    return StoreError(f"{name} in {url} has another size than was published: it is cut short, or was changed since.")

"""What a user names a store by: a folder, or `s3://BUCKET/PREFIX`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from methods.base.user_path import PathError, absolute, storable
from sessions.published.bucket import Bucket
from sessions.published.objects import Objects, StoreError
from sessions.published.shared_folder import SharedFolder

VARIABLE: Final = "KASOKU_STORE"
SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*(/[A-Za-z0-9][A-Za-z0-9._@+-]*)*")
LONGEST: Final = 300  # characters of a prefix: a key has at most 1,024


def opened(named: str) -> Objects:
    """The store of that name; nothing is asked of it yet. Raises StoreError, which repeats no password."""
    if "\0" in named or not named.strip():
        raise StoreError("A store is named by a folder or by s3://BUCKET/PREFIX.")
    found = SCHEME.match(named)
    if found is None:
        try:
            return SharedFolder(storable(absolute(named)))
        except PathError as error:
            raise StoreError(f"The store: {error}") from None
    if found["scheme"].lower() != "s3":
        raise StoreError(f"Stores at {found['scheme']}:// are not known: name a folder or s3://BUCKET/PREFIX.")
    return _bucket(named)


def _bucket(named: str) -> Bucket:
    try:
        parts = urlsplit(named)
        secret = "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError:
        raise StoreError("The store's URL is not one: it should read s3://BUCKET/PREFIX.") from None
    if secret:
        raise StoreError(
            "The store's URL has a user, a password or a query in it, which would be seen by everybody: name it"
            " s3://BUCKET/PREFIX, and keep keys where AWS' own tools look for them (AWS_PROFILE, `aws sso login`)."
        )
    if not BUCKET.fullmatch(parts.netloc):
        raise StoreError(
            f"{parts.netloc!r} is not a bucket's name, which has 3 to 63 lower-case letters, digits, dots and hyphens."
        )
    prefix = parts.path.strip("/")
    if prefix and (not PREFIX.fullmatch(prefix) or len(prefix) > LONGEST):
        raise StoreError(
            f"{prefix[:LONGEST]!r} cannot be a store's place in its bucket: use at most {LONGEST} letters, digits,"
            " and ._@+- between slashes."
        )
    return Bucket(parts.netloc, prefix)

"""Results that hold for a machine rather than a session, by key, in a JSON file of the home's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from methods.base.bounded_read import read_regular
from methods.base.home import CACHE, HomeError, private_folder, write_atomically

Result = TypeVar("Result")


class KeptResults(Generic[Result]):
    """Those of one file; `kind` is the type of its content, a dict of results by key."""

    def __init__(self, file: str, kind: type[dict[str, Result]]) -> None:
        self._file, self._kind = file, kind

    def keep(self, home: Path, key: str, result: Result) -> None:
        """Store a result, replacing an older one. Raises HomeError if the home cannot be written."""
        kept = {**self.known(home), key: result}
        content = msgspec.json.format(msgspec.json.encode(kept), indent=1)
        write_atomically(private_folder(home / CACHE) / self._file, content)

    def known(self, home: Path) -> dict[str, Result]:
        """The results by key; empty if there are none, or the file is damaged."""
        try:
            return msgspec.json.decode(read_regular(home / CACHE / self._file), type=self._kind)
        except (OSError, HomeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}

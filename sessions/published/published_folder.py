"""A session in a store as a folder: each of its files is fetched, checked and kept when first asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sessions.disk.plan import METHOD_NAME, Plan
from sessions.disk.session_folder import SessionError, SessionFile, SessionFolder
from sessions.published.manifest import PUBLISHED, Manifest


class PublishedFolder(SessionFolder):
    """Read like any session's folder, where whatever names a file raises SessionError if it cannot be fetched, and
    never written to. `fetch` brings the file of that name."""

    def __init__(self, path: Path, manifest: Manifest, url: str, fetch: Callable[[str], None]) -> None:
        super().__init__(path)
        self.manifest = manifest
        self.url = url
        self._fetch = fetch

    @property
    def is_own(self) -> bool:
        return False

    @property
    def place(self) -> str:
        return self.url

    @property
    def journal(self) -> Path:
        return self._there("journal.ndjson")

    def frame(self, name: str) -> Path:
        return self._there(f"{name}.parquet")

    def log(self, method: str, block: int) -> Path:
        if not re.fullmatch(METHOD_NAME, method):
            return super().log(method, block)
        return self._there(f"logs/{method}-{block}.log")

    def read(self) -> SessionFile:
        self._there("session.json")
        found = super().read()
        if found.id != self.id or found.status not in PUBLISHED:
            raise SessionError(f"The session.json of {self.id} in {self.url} is of another session, or has not ended.")
        return found

    def plan(self) -> Plan:
        self._there("plan.json")
        return super().plan()

    def refuse_shared(self) -> None:
        raise SessionError(
            f"{self.id} is in the store {self.url}, where nothing but `kasoku publish` changes anything: resume, rename"
            " or delete it on the machine that has it, and publish it again."
        )

    def write(self, session: SessionFile) -> None:
        del session
        self.refuse_shared()

    def try_lock(self) -> int | None:
        self.refuse_shared()
        return None

    def is_live(self) -> bool:
        return False

    def ask(self, action: str) -> None:
        del action
        self.refuse_shared()

    def _there(self, name: str) -> Path:
        if self.manifest.file(name) is not None:
            self._fetch(name)
        return self.path / name

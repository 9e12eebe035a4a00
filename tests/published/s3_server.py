"""Moto's S3 server as a process of its own, on loopback."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sessions.processes import until

KEYS = {"AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-a-secret"}
CHAIN = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3")


@contextmanager
def serving(log: Path, **variables: str) -> Iterator[str]:
    """The server's URL; its variables are moto's own."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=out,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(log.parent), **variables},
        )
        try:

            def address() -> str | None:
                found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text(errors="replace"))
                return found[1] if found else None

            yield until(address, "moto listens", 60)
        finally:
            process.terminate()
            process.wait()

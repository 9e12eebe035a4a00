"""A container that a server runs in: no descendant of this process, since its runtime's daemon is what starts it.

It is ended by its name, through its runtime. The name is noted in the block's private folder before the container is
started: the warden (methods/base/warden.py) ends what is noted there, whatever becomes of this process.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path

from kasoku_engine import UnsupportedError
from kasoku_failure import ServerError

NOTED = "containers"
ANSWER_S = 10.0


class Container:
    """One that is yet to be started, by a command that gives it `name`. `program` is its runtime: docker, podman."""

    def __init__(self, program: str, folder: str | None) -> None:
        if folder is None:
            raise UnsupportedError("There is no private folder in which a container could be noted: free some space.")
        self.program, self.name = program, "kasoku-" + secrets.token_hex(8)
        descriptor = os.open(Path(folder) / NOTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps([self.program, self.name]) + "\n")

    def runs(self) -> bool:
        """Whether its runtime says that it is running."""
        return self._told("inspect", "--format", "{{.State.Running}}", self.name).strip() == "true"

    def end(self) -> None:
        """Raises ServerError where its runtime does not answer; the warden tries again."""
        self._told("rm", "--force", self.name)

    def _told(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError("%s does not answer for the container %s." % (self.program, self.name)) from error
        return done.stdout.decode(errors="replace")

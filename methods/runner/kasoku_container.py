"""A container that a server runs in: no descendant of this process, since its runtime's daemon is what starts it.

What is known of it is what its runtime tells, and it is ended by its name, through its runtime. The name is noted in
the block's private folder before the container is started: the warden (methods/base/warden.py) ends what is noted
there, whatever becomes of this process.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from pathlib import Path

import kasoku_worker_facts
from kasoku_engine import UnsupportedError
from kasoku_failure import ServerError

NOTED = "containers"
ANSWER_S = 10.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - what podman leaves out
ELSEWHERE = "the first process is not to be seen on this machine: its runtime works in another, or in a virtual one"


class Container:
    """One that is yet to be started, by a command that gives it `name`. `program` is its runtime: docker, podman.

    `facts` are what its runtime tells once it runs: `pid`, the number that its first process has on this machine,
    None where it is `unseen` for a reason, and `published`, the addresses of this machine that lead into it.
    """

    def __init__(self, program: str, folder: str | None) -> None:
        if folder is None:
            raise UnsupportedError("There is no private folder in which a container could be noted: free some space.")
        self.program, self.name = program, "kasoku-" + secrets.token_hex(8)
        self.facts: dict = {}
        self._asked_for = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_A_SECOND) - 1
        descriptor = os.open(Path(folder) / NOTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps([self.program, self.name]) + "\n")

    def runs(self) -> bool:
        """Whether its runtime says that it is running."""
        return self._inspected("{{.State.Running}}") == "true"

    def look(self) -> None:
        """Have the `facts` of it as it runs now. Raises ServerError where its runtime does not answer."""
        told = self._inspected("{{.State.Pid}}")
        pid = int(told) if told.isdecimal() else 0
        unseen = ""
        if pid == 0:
            unseen = "its runtime does not tell the first process"
        elif not self._began_since(pid):
            pid, unseen = 0, ELSEWHERE
        self.facts = {"pid": pid or None, "unseen": unseen, "published": self._published()}

    def peak_rss_bytes(self) -> int | None:
        """Of its processes, those that run now; None where they are unseen."""
        pid = self.facts.get("pid")
        return kasoku_worker_facts.peak_rss_of_tree(pid) if pid else None

    def end(self) -> None:
        """Raises ServerError where its runtime does not answer; the warden tries again."""
        self._told("kill", self.name)  # by itself, podman's rm waits ten seconds for it to end
        self._told("rm", "--force", self.name)

    def _began_since(self, pid: int) -> bool:
        """Whether this machine's process of that number began after the container was asked for: a runtime elsewhere
        tells the number of a process there.
        """
        try:
            stat = Path("/proc/%d/stat" % pid).read_text(encoding="ascii", errors="replace")
            return int(stat.rpartition(")")[2].split()[19]) >= self._asked_for
        except (OSError, ValueError, IndexError):
            return False

    def _published(self) -> list:
        """HOST:PORT of each, sorted; none of a container that shares this machine's network."""
        try:
            ports = json.loads(self._inspected("{{json .NetworkSettings.Ports}}")) or {}
            led = [each for bound in ports.values() for each in bound or ()]
            return sorted({(str(each["HostIp"] or EVERY_ADDRESS), str(each["HostPort"])) for each in led})
        except (ValueError, AttributeError, KeyError, TypeError):
            return []

    def _inspected(self, form: str) -> str:
        return self._told("inspect", "--format", form, self.name).strip()

    def _told(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError("%s does not answer for the container %s." % (self.program, self.name)) from error
        return done.stdout.decode(errors="replace")

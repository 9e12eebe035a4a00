"""A server that Kasoku starts: its command, its key, its port, and waiting until it is ready.

It is a child of the runner, so that whatever ends the block ends it with all that it started.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kasoku_children
import kasoku_http
import kasoku_worker_facts
from kasoku_container import Container
from kasoku_engine import UnsupportedError
from kasoku_failure import ServerError

HOST = "127.0.0.1"
LOOK_S = 0.1
READY_ANSWER_S = 5.0
END_S = 10.0
NAMED = re.compile(r"\{(\w+)\}")


class StartedServer:
    """The process of the engine's option `command`, with `words` filled in, {host}, {port} and {file} among them.

    A key is drawn for this start. It goes into the variable of the process that the option `key_variable` names, or in
    place of {key} into {file}, whose content is the option `file_form`; never into an argument. With neither the server
    has none. The file is made in `folder`, for the user alone.

    The option `container` names the runtime of a container that the command starts by the name {container}.
    """

    def __init__(self, options: dict, words: dict, folder: str | None) -> None:
        key_variable, file_form = options.get("key_variable"), options.get("file_form")
        self.port = kasoku_http.free_port()
        self.key = secrets.token_urlsafe(32) if key_variable or "{key}" in (file_form or "") else None
        self._made: str | None = None
        filled = {**words, "host": HOST, "port": str(self.port)}
        environ = {**os.environ, **(options.get("variables") or {})}
        if key_variable:
            environ[key_variable] = self.key
        if file_form:
            filled["file"] = self._kept(file_form.replace("{key}", self.key or ""), folder)
        command = list(options["command"])
        self.container = None
        if options.get("container"):
            if not any("{container}" in word for word in command):
                raise UnsupportedError("The option command gives the container no name: put {container} where it goes.")
            self.container = Container(program_of(options["container"]), folder)
            filled["container"] = self.container.name
        self.command = [NAMED.sub(lambda found: filled.get(found[1], found[0]), word) for word in command]
        module = self.command[2:3] if self.command[1:2] == ["-m"] else []
        self.name = module[0] if module else Path(self.command[0]).name
        program = program_of(self.command[0])
        try:
            self.process = subprocess.Popen(
                [program, *self.command[1:]], stdin=subprocess.DEVNULL, stdout=2, stderr=2, env=environ
            )
        except OSError as error:
            raise UnsupportedError("%s cannot be started: %s." % (program, kasoku_http.reason_of(error))) from error

    def server(self) -> kasoku_http.Server:
        return kasoku_http.Server("http://%s:%d" % (HOST, self.port), self.key)

    def wait_until_ready(self, path: str, within_s: float) -> None:
        """Until the server answers `path` with 200. Raises ServerError where it ends before that, or takes too long."""
        deadline = time.monotonic() + within_s
        server = self.server()
        while True:
            self.check()
            if self.listens():
                try:
                    server.ask(path, within_s=READY_ANSWER_S)
                    break
                except ServerError as error:
                    if error.status in (401, 403):
                        raise
            if time.monotonic() > deadline:
                raise ServerError("The server %s was not ready after %g s: see the log." % (self.name, within_s))
            time.sleep(LOOK_S)
        self.check()

    def listens(self) -> bool:
        """Whether it, or what it started, listens at its port; of a container, whether it runs."""
        if self.container is not None:
            return self.container.runs()
        return kasoku_http.listens(self.port, [self.process.pid, *kasoku_children.descendants(self.process.pid)])

    def check(self) -> None:
        """Raises ServerError where the process is over."""
        status = self.process.poll()
        if status is not None:
            how = "was killed by signal %d" % -status if status < 0 else "ended with status %d" % status
            raise ServerError("The server %s %s: see the log." % (self.name, how))

    def peak_rss_bytes(self) -> int | None:
        """Of the server's processes; None where they cannot be seen."""
        if self.container is not None:
            return self.container.peak_rss_bytes()
        return kasoku_worker_facts.peak_rss_of_tree(self.process.pid)

    def end(self) -> None:
        """End the process and all it started, and remove the file of its key."""
        try:
            if self.container is not None:
                self.container.end()  # first: SIGTERM is passed on to its first process, which may ignore it
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
        finally:
            kasoku_children.end_descendants()
            if self._made is not None:
                shutil.rmtree(self._made, ignore_errors=True)

    def _kept(self, content: str, folder: str | None) -> str:
        if folder is None:  # otherwise the warden removes it, whatever becomes of this process
            self._made = folder = tempfile.mkdtemp(prefix="kasoku-")
        path = Path(folder) / "server.conf"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        return str(path)


def program_of(name: str) -> str:
    """Where a program is: beside this Python, or on the PATH. UnsupportedError where it is not there."""
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which(name)
    if found is None:
        raise UnsupportedError("There is no program %s beside %s or on the PATH." % (name, sys.executable))
    return found

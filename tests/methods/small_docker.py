"""A small runtime of containers that behaves as Docker does: a daemon starts them, and a client at the PATH asks it.

What it starts is a plain process, not isolated from anything, but no descendant of whoever asked for it.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

CLIENT = """#!{python}
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as daemon:
    daemon.connect({address!r})
    daemon.sendall(json.dumps([sys.argv[1:], dict(os.environ)]).encode() + b"\\n")
    status, said, complaint = json.loads(daemon.makefile().readline())
sys.stdout.write(said)
sys.stderr.write(complaint)
sys.exit(status)
"""
Answer = tuple[int, str, str]


class SmallDocker(socketserver.ThreadingUnixStreamServer):
    """`asked` are the arguments of all clients; `running` the containers by name, `published` where they are reached.
    One that is `far` tells the number of a process that is none of its own, as one on another machine may.
    """

    daemon_threads = True

    def __init__(self, address: Path) -> None:
        super().__init__(str(address), Client)
        self.asked: list[list[str]] = []
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.published: dict[str, list[dict[str, str]]] = {}
        self.stuck = self.far = False

    def handle_error(self, *_: object) -> None:
        """A client that was killed."""

    def answer(self, words: list[str], environ: Mapping[str, str]) -> Answer:
        self.asked.append(words)
        if self.stuck and words[0] in ("kill", "rm"):
            return 1, "", "Error response from daemon: container is stuck\n"
        if words[0] == "run":
            return self._run(words, environ)
        found = self.running.get(words[-1])
        if found is None:
            return 1, "", f"Error response from daemon: No such container: {words[-1]}\n"
        if words[0] == "inspect":
            return 0, f"{self._told(words[-1], words[words.index('--format') + 1])}\n", ""
        found.kill()
        found.wait()
        if words[0] == "rm":
            del self.running[words[-1]]
        return 0, f"{words[-1]}\n", ""

    def end_all(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()

    def _told(self, name: str, form: str) -> str:
        """What each of the forms is filled in with."""
        process = self.running[name]
        pid = 1 if self.far else process.pid
        return {
            "{{.State.Running}}": str(process.poll() is None).lower(),
            "{{.State.Pid}}": str(pid if process.poll() is None else 0),
            "{{json .NetworkSettings.Ports}}": json.dumps({"8000/tcp": self.published[name]}),
        }[form]

    def _run(self, words: list[str], environ: Mapping[str, str]) -> Answer:
        name, kept, published, rest = "", {}, [], iter(words[1:])
        for word in rest:
            if word == "--name":
                name = next(rest)
            elif word == "--env":
                variable = next(rest)
                kept[variable] = environ[variable]
            elif word == "--publish":
                host, port, _ = next(rest).rsplit(":", 2)
                published.append({"HostIp": host, "HostPort": port})
            elif word == "an-image":
                break
        process = subprocess.Popen(list(rest), env=kept, stdin=subprocess.DEVNULL)
        self.running[name], self.published[name] = process, published
        return process.wait(), "", ""


class Client(socketserver.StreamRequestHandler):
    server: SmallDocker

    def handle(self) -> None:
        words, environ = json.loads(self.rfile.readline())
        self.wfile.write(json.dumps(self.server.answer(words, environ)).encode() + b"\n")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[SmallDocker, Path]]:
    """The daemon, and the folder of its client `docker`, which belongs on the PATH."""
    address, client = folder / "d.sock", folder / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o700)
    with SmallDocker(address) as daemon:
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield daemon, client.parent
        finally:
            daemon.end_all()
            daemon.shutdown()
            thread.join()

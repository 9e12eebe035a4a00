# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""A user's engine, standard library only, that opens sockets.

listen     addresses to listen on once loaded, "host:port" (port 0: any); "later " in front: in the first request;
           "child " in front: by a process of its own; "udp " in front: a UDP socket
connect    an address to connect to once loaded
noted      a file: the evidence phase lasts until it is there
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from kasoku_engine import Engine

CHILD = """
import socket, sys, time
held = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
time.sleep(600)
"""


class Listening(Engine):
    def load(self, job: dict) -> dict:
        self.options = job["options"]
        self.held = []
        for asked in self.options.get("listen", ()):
            if not asked.startswith("later "):
                self.open(asked)
        if "connect" in self.options:
            host, _, port = self.options["connect"].rpartition(":")
            self.held.append(socket.create_connection((host, int(port))))
        return {"weights_bytes": 0, "dtype": job["dtype"], "device": "cpu", "threads": 1}

    def open(self, asked: str) -> None:
        how, _, address = asked.rpartition(" ")
        host, _, port = address.rpartition(":")
        if how == "child":
            child = subprocess.Popen([sys.executable, "-c", CHILD, host, port], stdout=subprocess.PIPE)
            child.stdout.readline()
            self.held.append(child)
        elif how == "udp":
            self.held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self.held[-1].bind((host, int(port)))
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.held.append(socket.create_server((host, int(port)), family=family))

    def generate(self, request: object, emit: object) -> str:
        if request.number == 0:
            for asked in self.options.get("listen", ()):
                if asked.startswith("later "):
                    self.open(asked.removeprefix("later "))
        for number in range(request.max_new_tokens):
            time.sleep(0.01)
            emit([number % 64])
        return "length"

    def evidence(self) -> dict:
        noted = self.options.get("noted")
        deadline = time.monotonic() + 20
        while noted and not Path(noted).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"cache": "dynamic"}


ENGINE = Listening

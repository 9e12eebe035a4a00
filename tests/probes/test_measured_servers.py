"""A server that is measured though Kasoku did not start it: found by its port, and no stranger on a GPU."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from probes.gpu.foreign_processes import Strangers
from probes.host.sockets import listening_on


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_the_process_behind_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening_on(port) == {os.getpid()}
    assert listening_on(port) == set()


def test_a_measured_process_and_its_children_are_no_strangers(child: int) -> None:
    """Seen by the child, whose own descendant this process is not."""
    seen = Strangers(own=child)
    assert seen.count([child, os.getpid(), os.getppid()]) == 2
    seen.also = frozenset([os.getppid()])  # a container's first process is known to be ours once its server answers
    assert seen.count([child, os.getpid(), os.getppid()]) == 0

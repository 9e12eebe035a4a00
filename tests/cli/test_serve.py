"""`kasoku serve` as a command: what it refuses to begin with, what it prints, and how it ends."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
from subprocess import PIPE

import pytest

from tests.sessions.workplace import KASOKU, Workplace, environment_of
from tui.command_line import PORT, parser

LOOPBACK = "127.0.0.1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "0"], r"Argument --port: '0' is not a port from 1 to 65,535"),
        (["--port", "65536"], r"Argument --port: '65536' is not a port"),
        (["--port", "-1"], r"--port"),
        (["--port", "http"], r"'http' is not a port"),
        (["--port", "９"], r"is not a port"),
        (["--sessions", "0"], r"'0' is not a number of workbenches from 1 to 16"),
        (["--host", "192.168.1.2"], r"--host '192\.168\.1\.2' is not this machine's own: use 127.*`ssh -L 8765:127"),
        (["--host", "::"], r"--host '::' is not this machine's own"),
        (
            ["--host", "example.org", "--port", "9000"],
            r"--host 'example\.org' is not .*`ssh -L 9000:127\.0\.0\.1:9000 ",
        ),
        (["--host", ""], r"--host '' is not this machine's own"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(work: Workplace, arguments: list[str], sentence: str) -> None:
    said = work.command("serve", *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert re.search(sentence, said.err), said.err


def test_a_home_that_cannot_be_is_said_before_anything_is_served(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KASOKU_HOME", "/a\udcff")
    said = work.command("serve")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("kasoku: KASOKU_HOME: ")


def test_by_default_there_are_two_workbenches_on_a_port_of_its_own() -> None:
    options = parser().parse_args(["serve"])
    assert (options.host, options.port, options.sessions, options.recording) == (LOOPBACK, PORT, 2, False)


@pytest.mark.parametrize("package", ["aiohttp", "textual_serve"])
def test_without_its_packages_it_says_how_to_get_them(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package or name.startswith("tui.browser")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    said = work.command("serve")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"kasoku: `kasoku serve` needs {package}, which is not installed: ")
    assert "`uv tool install '.[serve]'`" in said.err
    assert said.err.count("\n") == 1


def test_a_port_in_use_is_said(work: Workplace) -> None:
    with socket.create_server((LOOPBACK, 0)) as held:
        port = held.getsockname()[1]
        said = work.kasoku("serve", "--port", str(port))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"kasoku: Port {port} is in use on 127.0.0.1: choose another one with --port.\n"


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def test_it_prints_a_link_outlives_its_terminal_under_nohup_and_ends_when_asked_to(work: Workplace) -> None:
    port = free_port()
    command = ["env", "--ignore-signal=HUP", str(KASOKU), "serve", "--host", "localhost", "--port", str(port)]
    with subprocess.Popen(command, text=True, env=environment_of(work), stdout=PIPE, stderr=PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            link = process.stdout.readline().strip()
            assert re.fullmatch(rf"http://127\.0\.0\.1:{port}/\?token=[\w-]{{43}}", link), process.stderr.read()
            process.send_signal(signal.SIGHUP)
            client = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
            client.request("GET", link.partition(str(port))[2])
            assert client.getresponse().status == 200
            client.close()
            process.terminate()
            out, err = process.stdout.read(), process.stderr.read()
            process.wait(60)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert "it works once" in out
    assert f"`ssh -L {port}:127.0.0.1:{port} MACHINE`" in out

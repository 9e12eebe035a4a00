"""Kasoku listens nowhere; where an engine listens is kept with its block, and flagged where others can reach it."""

from __future__ import annotations

import csv
import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from probes.host.sockets import Sockets, is_loopback, sockets_of
from sessions.disk.records import BlockPhase, Note, SocketsSeen, Tokens
from sessions.disk.session_folder import SessionFolder
from tests.sessions.processes import until
from tests.sessions.workplace import (
    KASOKU,
    Workplace,
    assert_nothing_left,
    conductor_of,
    environment_of,
    records_of,
    runs_of,
)
from tests.tui.terminal import Terminal
from tui.read.session_facts import run_facts

ENGINE = Path(__file__).with_name("listening_engine.py")
ACCEPTING = 0x10000  # __SO_ACCEPTCON among the flags in /proc/net/unix


def free_port(host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> int:
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listening(work: Workplace, name: str, **options: Any) -> str:
    """A method of the listening engine in the catalogue."""
    rows = [
        f"[methods.{name}]",
        f'summary = "opens sockets: {name}"',
        f"engine = {json.dumps(str(ENGINE))}",
        'environments = { cpu = "plain" }',
        'must_show = { cache = "dynamic" }',
        f"[methods.{name}.options]",
        *(f"{key} = {json.dumps(value)}" for key, value in options.items()),
    ]
    folder = work.config / "methods"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{name}.toml").write_text("\n".join(rows) + "\n")
    return name


def seen(folder: SessionFolder) -> list[SocketsSeen]:
    return [record for record in records_of(folder) if isinstance(record, SocketsSeen)]


# Nothing of ours


def accepting_unix_sockets() -> set[str]:
    """The inodes of all Unix sockets of this machine that accept connections."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {row[6] for row in rows if int(row[3], 16) & ACCEPTING}


def assert_listens_nowhere(process: psutil.Process) -> None:
    """Neither the process nor anything below it."""
    accepting = accepting_unix_sockets()
    for one in [process, *process.children(recursive=True)]:
        found = sockets_of([one.pid])
        assert (found.listening, found.connected, found.reason) == ((), (), ""), (one.cmdline(), found)
        for descriptor in Path(f"/proc/{one.pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except FileNotFoundError:  # closed since it was listed
                continue
            assert target.removeprefix("socket:[").rstrip("]") not in accepting, (one.cmdline(), target)


@contextmanager
def app(work: Workplace) -> Iterator[Terminal]:
    terminal = Terminal(120, 30)
    terminal.start([str(KASOKU)], {**environment_of(work), "TERM": "xterm-256color"})
    try:
        yield terminal
    finally:
        if terminal.status is None:
            terminal.hang_up()


def test_no_process_of_a_session_nor_the_workbench_listens(work: Workplace) -> None:
    work.method("slow", rate=20.0)
    folder = work.launch("slow", max_new_tokens=2_000)
    until(lambda: any(isinstance(record, Tokens) for record in records_of(folder)), "tokens flow")
    with app(work) as screen:
        screen.wait_for(lambda text: "request 1" in text and "tok/s" in text, 60, "the session on the screen")
        assert_listens_nowhere(conductor_of(folder))
        assert_listens_nowhere(psutil.Process(screen.pid))
        for key in b"2341":
            screen.press(bytes([key]))
        screen.wait_for(lambda text: "request 1" in text, 60, "the run again")
        assert_listens_nowhere(psutil.Process(screen.pid))
    folder.ask("stop")
    work.finished(folder)
    assert [(record.listening, record.connected) for record in seen(folder)] == [([], [])]
    assert_nothing_left(folder)


def test_this_test_would_see_a_socket(tmp_path: Path) -> None:
    own = psutil.Process()
    with socket.create_server(("127.0.0.1", 0)), pytest.raises(AssertionError):
        assert_listens_nowhere(own)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        with pytest.raises(AssertionError):
            assert_listens_nowhere(own)


# An engine's own


@dataclass(frozen=True)
class Opened:
    """A session of four methods, two of which open sockets: `ports` says which."""

    work: Workplace
    folder: SessionFolder
    ports: Mapping[str, int]

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        return {run["method"]: run for run in runs_of(self.folder)}

    def seen(self, method: str) -> list[SocketsSeen]:
        return [record for record in seen(self.folder) if record.method == method]


@pytest.fixture(scope="module")
def opened(shared_work: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    work, noted = shared_work, tmp_path_factory.mktemp("noted") / "noted"
    ports = {kind: free_port() for kind in ("every", "private", "child", "udp", "later", "six")}
    listening(work, "open", listen=[f"0.0.0.0:{ports['every']}", f"127.0.0.1:{ports['private']}"])
    asked = [
        f"child 0.0.0.0:{ports['child']}",
        f"udp 0.0.0.0:{ports['udp']}",
        f"later 127.0.0.1:{ports['later']}",
        f":::{ports['six']}",
    ]
    listening(work, "many", listen=asked, noted=str(noted))
    work.method("one", rate=200.0)
    work.method("breaks", fault="exception", at="load")
    folder = work.launch("one", "breaks", "open", "many", warmup=1, requests=2, max_new_tokens=20)
    session = Opened(work, folder, ports)
    until(lambda: len(session.seen("many")) == 2, "the second look, with the timed part over")
    noted.touch()
    assert work.finished(folder) == "finished"
    assert_nothing_left(folder)
    return session


def test_an_engine_that_listens_on_every_address_is_recorded_and_flagged(opened: Opened, tmp_path: Path) -> None:
    work, folder, run = opened.work, opened.folder, opened.runs["open"]
    port, private = opened.ports["every"], opened.ports["private"]
    assert run["status"] == "ok", run["error"]
    assert run["sockets"] == [f"listens on 0.0.0.0:{port}", f"listens on 127.0.0.1:{private}"]
    assert f"open to the network: listens on 0.0.0.0:{port}" in run["flags"]
    assert not any(str(private) in flag for flag in run["flags"])
    assert "sockets" not in json.loads(run["missing"])
    first = opened.seen("open")[0]
    assert (first.beyond, first.reason) == ([f"0.0.0.0:{port}"], "")
    notes = [record.text for record in records_of(folder) if isinstance(record, Note)]
    assert f"open, block 0: listens on 0.0.0.0:{port}" in notes, "whoever watches it reads it at once"
    # wherever a flag is shown
    shown = work.command("show", folder.id)
    assert f"flag: open to the network: listens on 0.0.0.0:{port}" in " ".join(shown.out.split())
    assert any(fact.text == f"open to the network: listens on 0.0.0.0:{port}" for fact in run_facts(folder, run))
    assert work.command("export", folder.id, "--out", str(tmp_path / "csv")).code == 0
    with (tmp_path / "csv" / "runs.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["method"] == "open"]
    assert row["sockets"] == f"listens on 0.0.0.0:{port}; listens on 127.0.0.1:{private}"


def test_sockets_of_children_of_every_kind_and_of_later_are_found(opened: Opened) -> None:
    ports, run = opened.ports, opened.runs["many"]
    assert run["sockets"] == sorted(
        [
            f"listens on 0.0.0.0:{ports['child']}",
            f"listens on 0.0.0.0:{ports['udp']} (UDP)",
            f"listens on 127.0.0.1:{ports['later']}",
            f"listens on [::]:{ports['six']}",
        ]
    )
    (flag,) = {flag for flag in run["flags"] if flag.startswith("open to the network")}
    beyond = sorted([f"0.0.0.0:{ports['child']}", f"0.0.0.0:{ports['udp']} (UDP)", f"[::]:{ports['six']}"])
    assert flag == f"open to the network: listens on {', '.join(beyond)}"
    assert f"127.0.0.1:{ports['later']}" in opened.seen("many")[-1].listening


def test_there_are_two_looks_a_block_and_a_reason_where_there_was_none(opened: Opened) -> None:
    kinds = [
        record.phase if isinstance(record, BlockPhase) else "look"
        for record in records_of(opened.folder)
        if isinstance(record, BlockPhase | SocketsSeen) and record.method == "one"
    ]
    assert kinds == ["import", "load", "warmup", "look", "timed", "evidence", "look", "greedy", "close"]
    runs = opened.runs
    assert runs["one"]["sockets"] == []
    assert runs["breaks"]["sockets"] is None
    assert "did not reach its warm-up" in json.loads(runs["breaks"]["missing"])["sockets"]


# The probe by itself


def test_connections_to_other_machines_are_told_and_those_within_this_one_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert sockets_of([os.getpid()]).connected == ()
    addresses = {one.address for ones in psutil.net_if_addrs().values() for one in ones if one.family == socket.AF_INET}
    outer = sorted(address for address in addresses if not is_loopback(ipaddress.ip_address(address)))
    if not outer:
        pytest.skip("this machine has no address but loopback")
    with socket.create_server((outer[0], 0)) as server, socket.create_connection(server.getsockname()):
        found = sockets_of([os.getpid()])
        written = f"{outer[0]}:{server.getsockname()[1]}"
        assert written in found.listening
        assert written in found.beyond
        assert written in found.connected


def test_a_sentence_names_a_few_addresses_and_counts_the_rest() -> None:
    found = [f"192.0.2.2:{port}" for port in range(40001, 40016)]

    assert Sockets(beyond=tuple(found[:3])).beyond_in_words() == f"listens on {', '.join(found[:3])}"
    assert Sockets(beyond=tuple(found)).beyond_in_words() == f"listens on {', '.join(found[:3])} and 12 more"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104 - that is what this is about
        ("::", False),
        ("192.168.1.2", False),
        ("::ffff:192.168.1.2", False),
        ("fe80::1%eth0", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(ipaddress.ip_address(host)) is loopback


def test_it_says_what_psutil_says() -> None:
    """Of this process, with a socket of each kind open."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()),
        socket.create_server(("::1", 0), family=socket.AF_INET6),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connected,
    ):
        unconnected.bind(("127.0.0.1", 0))
        connected.connect(("127.0.0.1", 9))
        told = psutil.Process().net_connections("inet")
        listens = [one for one in told if one.status == psutil.CONN_LISTEN]
        listens += [one for one in told if one.type == socket.SOCK_DGRAM and not one.raddr]
        expected = {(one.laddr[0], one.laddr[1]) for one in listens}
        found = {
            (host.strip("[]"), int(port))
            for host, _, port in (
                each.removesuffix(" (UDP)").rpartition(":") for each in sockets_of([os.getpid()]).listening
            )
        }
    assert len(found) == 3
    assert found == expected


def test_processes_that_are_gone_have_no_sockets() -> None:
    gone = psutil.Popen(["true"])
    gone.wait()
    found = sockets_of([gone.pid, 2**22 + 1])
    assert (found.listening, found.beyond, found.connected, found.reason) == ((), (), (), "")

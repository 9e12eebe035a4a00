"""Sessions of other hosts: begun there, carried here byte for byte, told to stop, and found again, whatever is cut."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from methods.base.home import SESSIONS, private_folder
from methods.base.interpreter import Interpreter
from methods.environments import environments
from sessions.disk.host_file import OnHost, host_of, write_host
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import SessionError, SessionFile, SessionFolder, create
from sessions.hosts import asking
from sessions.hosts.asking import Question
from sessions.hosts.at_host import GONE, OTHER, AtHost
from sessions.hosts.carried import Carried, CarryError
from sessions.hosts.carrier import Carrier
from sessions.hosts.cluster import ClusterLostError, Look
from sessions.hosts.errands import kasoku_version
from sessions.hosts.hosts import HostError, cluster_address, named_hosts
from sessions.hosts.messages import DoctorAsked, MoreAsked, RunAsked
from sessions.hosts.ray_cluster import refusal
from sessions.run.launch import resume
from tests.sessions.conftest import workplace_in
from tests.sessions.local_cluster import LocalCluster
from tests.sessions.processes import end_all, until
from tests.sessions.workplace import KASOKU, Workplace, conductor_of
from tui.settings import load_settings
from tui.words.host_words import HOST_LOST, HOST_REACHED

ON = "ray://head:10001"


# What is named


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ray://head", "ray://head:10001"),
        ("ray://10.0.0.1:7", "ray://10.0.0.1:7"),
        (" ray://[fd00::1]/ ", "ray://[fd00::1]:10001"),
    ],
)
def test_a_cluster_has_an_address(text: str, address: str) -> None:
    assert cluster_address(text) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("head:10001", "is not the address of a Ray cluster"),
        ("http://head", "is not the address of a Ray cluster"),
        ("ray://", "is not the address of a Ray cluster"),
        ("ray://head:none", "is not the address of a Ray cluster"),
        ("ray://head/path", "scheme, host and port alone"),
        ("ray://me:secret@head", "no user and no password"),
    ],
)
def test_what_is_no_address_is_refused_and_no_password_is_shown(text: str, said: str) -> None:
    with pytest.raises(HostError, match=said) as refused:
        cluster_address(text)
    assert "secret" not in str(refused.value)


def test_hosts_are_named_by_what_they_have() -> None:
    settled = {"h100": "accelerator_type:H100", "l40s": "node:10.0.0.7"}
    assert named_hosts(["a=box=1", "h100"], settled) == {"a": "box=1", "h100": "accelerator_type:H100"}
    assert named_hosts([], settled) == settled


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([], "--on needs a host"),
        (["other"], "write NAME=RESOURCE"),
        (["=box"], "write NAME=RESOURCE"),
        (["a="], "write NAME=RESOURCE"),
        (["../a=box"], "write NAME=RESOURCE"),
        (["a=one", "a=two"], "Two hosts are called a"),
        (["a=box", "b=box"], "a and b name the same host, box"),
    ],
)
def test_hosts_that_cannot_be_told_apart_are_refused(said: list[str], sentence: str) -> None:
    with pytest.raises(HostError, match=sentence):
        named_hosts(said, {})


MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.7
This process on Ray Client was started with:
    Ray: 2.60.0
    Python: 3.12.1
"""
UNREAD = """Initialization failure from server:
Traceback (most recent call last):
  File "proxier.py", line 765, in Datapath
AttributeError: 'JobConfig' object has no attribute '_disable_job_level_lineage_reconstruction'
"""
UNSERVED = """Initialization failure from server:
Traceback (most recent call last):
RuntimeError: Starting Ray client server failed. See ray_client_server_23000.err for detailed logs.
"""


@pytest.mark.parametrize(
    ("ray_says", "kind", "sentence"),
    [
        (MISMATCH, HostError, "has Ray 2.60.0 on Python 3.11.7, and here is Ray 2.60.0 on Python 3.12.1: run Kasoku"),
        (UNREAD, HostError, "cannot read what Ray 2.59.0 sends from here (AttributeError: 'JobConfig' object has"),
        (UNSERVED, ClusterLostError, "started no client server for us"),
        ("ray client connection timeout", ClusterLostError, "cannot be used: ray client connection timeout."),
        ("", ClusterLostError, "cannot be used: no reason given."),
    ],
)
def test_what_ray_says_where_it_cannot_connect_is_one_sentence(
    ray_says: str, kind: type[Exception], sentence: str
) -> None:
    """As Ray 2.60 says it of a driver with another Python, and of one with Ray 2.59."""
    found = refusal(ON, ray_says, "2.59.0")
    assert isinstance(found, kind)
    assert sentence in str(found)
    assert "\n" not in str(found)


# What is carried


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Workplace]:
    """The home of a host."""
    work = workplace_in(private_folder(tmp_path / "host"))
    yield work
    end_all(tmp_path / "host")


@contextmanager
def carrying(cluster: LocalCluster, folder: SessionFolder, patience_s: float = 600.0) -> Iterator[threading.Thread]:
    """A carrier at work, as a thread, with the session's lock."""
    lock = folder.try_lock()
    found = host_of(folder.path)
    assert lock is not None
    assert found is not None
    carrier = Carrier(cluster, [Carried(folder, found)], patience_s, retry_s=0.05)
    thread = threading.Thread(target=carrier.run)
    thread.start()
    try:
        yield thread
        thread.join(120)
        assert not thread.is_alive()
    finally:
        os.close(lock)


def same(folder: SessionFolder, host: Workplace) -> bool:
    """Whether the journal here is the host's."""
    return folder.journal.read_bytes() == (host.home / SESSIONS / folder.id / "journal.ndjson").read_bytes()


def question(work: Workplace, *methods: str, **said: object) -> Question:
    wanted = work.wanted(*methods, **said)
    return Question(on=ON, hosts={"h": "box"}, run=RunAsked(said=dict(wanted.said), methods=list(methods)))


@pytest.mark.engines
def test_a_session_of_another_host_is_followed_stopped_and_resumed_as_if_it_ran_here(
    work: Workplace, host: Workplace
) -> None:
    """Cut off in its midst, stopped from here while it is out of reach, its conductor killed, then resumed."""
    host.method("slow", rate=20)
    cluster = LocalCluster({"box": host})
    asked = question(host, "slow", requests=2, blocks=2, max_new_tokens=12)
    folder = SessionFolder(work.home / SESSIONS / asking.begin(cluster, asked).ids["h"])
    there = SessionFolder(host.home / SESSIONS / folder.id)
    assert folder.plan() == there.plan()
    with pytest.raises(SessionError, match="resumes it there"):
        resume(folder, work.home, anyway=True)
    with carrying(cluster, folder):
        until(lambda: folder.read().status == "running" and folder.is_live(), "it runs there, and here")
        cluster.cut.add("box")
        until(lambda: (found := host_of(folder.path)) and found.lost_ns, "it is said to be out of reach")
        folder.ask("stop")
        cluster.cut.clear()
        until(lambda: not there.is_live(), "it was told to stop")
    assert (folder.read().status, folder.read().host) == ("stopped", "h")
    assert same(folder, host)
    assert folder.frame("runs").is_file()
    assert not os.listdir(folder.path / "requests")  # noqa: PTH208

    one = msgspec.structs.replace(asked, more=MoreAsked(session=folder.id))
    assert asking.more(cluster, one).begun
    with carrying(cluster, folder):
        until(lambda: there.read().status == "running", "it is at work again")
        conductor_of(there).kill()
    assert (folder.read().status, there.read().status) == ("interrupted", "interrupted")
    assert asking.find(cluster, one).status == "interrupted"
    assert asking.more(cluster, one).begun
    with carrying(cluster, folder):
        pass
    assert folder.read().status == "finished"
    assert same(folder, host)


@pytest.mark.engines
def test_nothing_begins_anywhere_where_one_host_refuses(work: Workplace, host: Workplace) -> None:
    host.method("one")
    cluster = LocalCluster({"box": host, "bare": work})
    asked = msgspec.structs.replace(question(host, "one"), hosts={"h": "box", "other": "bare"})
    with pytest.raises(HostError, match=r"other: Unknown method 'one'"):
        asking.begin(cluster, asked)
    assert not work.sessions()
    assert not host.sessions()
    same_host = msgspec.structs.replace(asked, hosts={"h": "box", "again": "again"})
    cluster.places["again"] = host
    with pytest.raises(HostError, match="h and again are the same host"):
        asking.begin(cluster, same_host)
    missing = msgspec.structs.replace(asked, hosts={"h": "nowhere"})
    with pytest.raises(HostError, match="h: No host of the cluster has the resource nowhere"):
        asking.begin(cluster, missing)


def test_another_kasoku_on_a_host_is_said_before_anything_starts(
    work: Workplace, host: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = kasoku_version()
    monkeypatch.setattr("sessions.hosts.asking.kasoku_version", lambda: "0.0.9")
    with pytest.raises(
        HostError, match=rf"h has Kasoku {theirs} \(schema .*this is 0\.0\.9 .* install the same on both"
    ):
        asking.begin(LocalCluster({"box": host}), question(host))
    assert not work.sessions()
    assert not host.sessions()


def test_environments_are_made_on_a_host_that_lacks_them(work: Workplace, host: Workplace) -> None:
    (host.config / "environments.toml").write_text('[small]\nrequirements = ["iniconfig==2.1.0"]\n')
    host.method("one")
    cluster = LocalCluster({"box": host, "bare": work})
    both = {"h": "box", "other": "bare"}
    asked = Question(on=ON, hosts=both, doctor=DoctorAsked(create=["small"]))
    for said in ("The environment small was created.", ""):
        found = asking.doctor(cluster, asked)
        assert found.refused == {}
        seen, other = found.hosts["h"], found.hosts["other"]
        assert seen is not None
        assert other is not None
        assert [each.text for each in seen.findings if "The environment" in each.text] == ([said] if said else [])
        assert seen.methods["one"] == ""
        (unknown,) = [each for each in other.findings if "cannot be created" in each.text]
        assert (unknown.level, "small" in unknown.text) == ("problem", True)
    environment = environments.resolve("small", host.home, host.config)
    assert isinstance(environment, Interpreter)
    assert environment.python.is_relative_to(host.home)


@pytest.fixture
def carried(work: Workplace) -> Iterator[Carried]:
    """A session's folder here, with its lock, before anything came."""
    work.method("one")
    folder, lock = create(work.home / SESSIONS, work.plan("one"))
    where = OnHost(on=ON, host="h", resource="box", folder="/there")
    write_host(folder.path, where)
    yield Carried(folder, where)
    os.close(lock)


def said(carried: Carried, **changes: object) -> bytes:
    """session.json as the host has it."""
    return msgspec.json.encode(msgspec.structs.replace(carried.folder.read(), **changes))


def test_a_journal_goes_on_from_its_last_whole_line(carried: Carried) -> None:
    carried.take(Look(b'{"k":"one"}\n', b"", 1, 1))
    with carried.folder.journal.open("ab") as journal:
        journal.write(b'{"k":"torn')
    again = Carried(carried.folder, carried.host)
    assert again.offset == len(b'{"k":"one"}\n') == carried.folder.journal.stat().st_size
    assert again.check() == hashlib.sha256(b'{"k":"one"}\n').hexdigest()


def test_a_journal_that_begins_otherwise_there_is_fetched_anew(carried: Carried, tmp_path: Path) -> None:
    carried.take(Look(b"ours\n", b"", 1, 1))
    (tmp_path / "journal.ndjson").write_bytes(b"theirs, which is longer\n")
    look = AtHost().look(str(tmp_path), carried.offset, carried.check(), 0, 100, 0.0, 0.0)
    assert look[3] == OTHER
    carried.begin_again()
    carried.take(Look(*AtHost().look(str(tmp_path), carried.offset, carried.check(), 0, 100, 0.0, 0.0)))
    assert carried.folder.journal.read_bytes() == b"theirs, which is longer\n"


def test_a_host_gives_whole_lines_and_says_what_is_not_there(tmp_path: Path) -> None:
    look = AtHost().look
    assert look(str(tmp_path / "none"), 0, "", 0, 100, 0.0, 0.0)[3] == GONE
    (tmp_path / "journal.ndjson").write_bytes(b"one\ntwo\nthr")
    assert look(str(tmp_path), 0, "", 0, 100, 0.0, 0.0)[0] == b"one\ntwo\n"
    assert look(str(tmp_path), 0, "", 0, 6, 0.0, 0.0)[0] == b"one\n"
    assert look(str(tmp_path), 8, "", 0, 100, 0.0, 0.0)[0] == b""
    assert look(str(tmp_path), 0, "", 0, 2, 0.0, 0.0)[0] == b"on"  # of a line that is longer than a look
    assert look(str(tmp_path), 99, "", 0, 100, 0.0, 0.0)[3] == OTHER


@pytest.mark.parametrize("name", ["../stop", ".stop", "", "a/b", "a\0b"])
def test_a_host_writes_no_request_outside_its_folder(tmp_path: Path, name: str) -> None:
    assert AtHost().ask(str(tmp_path), name) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_another_session_than_asked_for_is_refused(carried: Carried) -> None:
    with pytest.raises(CarryError, match="in place of"):
        carried.take(Look(b"", said(carried, id="20260101-000000-abcdef"), 1, 1))
    with pytest.raises(CarryError, match="newer Kasoku"):
        carried.take(Look(b"", said(carried, schema_version=SCHEMA_VERSION + 1), 1, 1))


def test_name_and_tags_given_here_stay_and_the_end_waits_for_the_journal(carried: Carried) -> None:
    carried.folder.write(msgspec.structs.replace(carried.folder.read(), name="mine", tags=["t"]))
    carried.take(Look(b"last\n", said(carried, status="stopped", name="theirs", tags=[]), 1, 0))
    assert carried.folder.read().status == "preparing"
    carried.take(Look(b"", b"", 1, 0))
    ended: SessionFile = carried.folder.read()
    assert (ended.status, ended.name, ended.tags, ended.host) == ("stopped", "mine", ["t"], "h")
    assert carried.over


def test_attach_says_when_the_host_is_out_of_reach_and_when_it_is_reached_again(
    work: Workplace, carried: Carried
) -> None:
    variables = os.environ | {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
    command = [str(KASOKU), "attach", carried.folder.id]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as attached:
        assert attached.stdout is not None
        carried.lost()
        assert attached.stdout.readline() == f"{HOST_LOST}\n"
        carried.reached()
        assert attached.stdout.readline() == f"{HOST_REACHED}\n"
        attached.kill()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_host_that_does_not_come_back_leaves_a_session_that_can_be_resumed(
    carried: Carried, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions.hosts.carrier.UNTOLD_S", 0.0)
    if stopped:
        carried.folder.ask("stop")
    Carrier(LocalCluster({}), [carried], 600.0 if stopped else 0.1, retry_s=0.01).run()
    ended = carried.folder.read()
    assert ended.status == "interrupted"
    assert ("was not told to stop" if stopped else "has been out of reach") in ended.error
    assert f"kasoku attach {ended.id}" in ended.error
    assert carried.folder.frame("runs").is_file()


def test_thousands_of_hosts_are_looked_at_less_often(carried: Carried) -> None:
    assert Carrier(LocalCluster({}), [carried])._pause_s == 0.5
    assert Carrier(LocalCluster({}), [carried] * 1000)._pause_s == 20.0


# What is said on the command line


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--host", "a=box"], "--host goes with --on"),
        (["run", "--on", "head"], "is not the address of a Ray cluster"),
        (["run", "--on", ON], "--on needs a host"),
        (["run", "--on", ON, "--host", "a=x", "--host", "a=y"], "Two hosts are called a"),
        (["doctor", "--create-environments"], "go with --on"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(work: Workplace, words: list[str], said: str) -> None:
    done = work.command(*words)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1


def test_where_a_host_is_now_is_said_of_a_session_of_another_host_alone(work: Workplace, carried: Carried) -> None:
    """And not while it is followed."""
    now = ["--on", ON, "--host", "h=box"]
    followed = work.command("attach", carried.folder.id, *now)
    assert (followed.code, followed.err) == (
        2,
        f"kasoku: {carried.folder.id} is still followed at {ON}, box: `kasoku stop {carried.folder.id}` ends that.\n",
    )
    folder, lock = create(work.home / SESSIONS, work.plan("one"))
    os.close(lock)
    here = work.command("resume", folder.id, *now)
    assert (here.code, here.err) == (2, f"kasoku: {folder.id} is measured here: --on is for those of other hosts.\n")
    alone = work.command("resume", folder.id, "--host", "h=box")
    assert (alone.code, "--host goes with --on" in alone.err) == (2, True)


def test_hosts_are_read_from_the_settings(work: Workplace) -> None:
    (work.config / "settings.toml").write_text('[hosts]\nh100 = "accelerator_type:H100"\nodd = 5\n')
    settings, problems = load_settings(work.config)
    assert settings.hosts == {"h100": "accelerator_type:H100"}
    assert len(problems) == 1
    assert "'odd' was ignored" in problems[0]

"""The measured process tree, with real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from probes.host import process_tree
from probes.host.descendants import descendants, listed_children, scanned_children
from probes.host.process_tree import WALK_AT_LEAST_NS, ProcessTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

# Holds 40 MB, starts a child that holds 40 MB more, says the child's PID; "burn" keeps a core busy.
PARENT = """
import subprocess, sys, threading
held = bytearray(b"x") * (40 << 20)
child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
for line in sys.stdin:
    if line == "burn\\n":
        threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(int, 1)], daemon=True).start()
    if line == "end child\\n":
        child.terminate(); child.wait(); print("ended", flush=True)
    if line == "leave child\\n":
        import os; os._exit(0)
"""
CHILD = """
import signal
held = bytearray(b"x") * (40 << 20)
print("up", flush=True)
signal.pause()
"""


SCRIPT = f"CHILD = {CHILD!r}\n" + PARENT
# Says that it is up, starts the tree of PARENT at the first line, says its child's PID, and ends it at the second.
GROWING = """
import subprocess, sys
print("up", flush=True)
sys.stdin.readline()
pipe = subprocess.PIPE
grown = subprocess.Popen([sys.executable, "-I", "-c", sys.argv[1]], stdin=pipe, stdout=pipe, text=True)
print(grown.stdout.readline().strip(), flush=True)
sys.stdin.readline()
grown.communicate("end child\\n")
"""


class Tree:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.child = int(self._out().readline())

    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def answer(self) -> str:
        return self._out().readline().strip()


@pytest.fixture
def tree() -> Iterator[Tree]:
    started = Tree()
    child = psutil.Process(started.child)
    yield started
    for process in (started.process, child):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    started.process.communicate()


def read(source: ProcessTree) -> dict[str, float | None]:
    return {reading.metric: reading.value for reading in source.slow(process_tree.SLOW_TURN)}


def test_memory_and_count_are_the_whole_trees(tree: Tree) -> None:
    source = ProcessTree()
    source.watch([tree.process.pid])
    values = read(source)
    rss, pss = values["rss_bytes"], values["pss_bytes"]
    assert values["processes"] == 2
    assert rss is not None
    assert rss > 80 << 20
    assert pss is not None
    assert 80 << 20 < pss <= rss * 1.01


def test_the_tree_is_read_at_every_second_tick_and_the_dear_part_once_a_second(tree: Tree) -> None:
    source = ProcessTree()
    source.watch([tree.process.pid])
    ticks = [{reading.metric for reading in (*source.fast(), *source.slow(turn))} for turn in range(10)]
    assert [bool(metrics) for metrics in ticks] == [False, True] * 5
    assert [turn for turn, metrics in enumerate(ticks) if "processes" in metrics] == [process_tree.SLOW_TURN]


def test_cpu_is_the_trees_and_needs_two_looks(tree: Tree) -> None:
    source = ProcessTree()
    source.watch([tree.process.pid])
    assert "cpu_percent" not in {reading.metric for reading in source.slow(1)}
    tree.say("burn")
    began = psutil.Process(tree.process.pid).cpu_times().user
    deadline = time.monotonic() + 60
    while psutil.Process(tree.process.pid).cpu_times().user < began + 0.2 and time.monotonic() < deadline:
        subprocess.run([sys.executable, "-c", ""], check=True)
    cpu = {reading.metric: reading.value for reading in source.slow(5)}["cpu_percent"]
    assert cpu is not None
    assert 1 < cpu < 400


def test_a_tree_too_big_for_one_tick_keeps_its_last_values(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "AT_ONCE", 1)
    source = ProcessTree()
    source.watch([tree.process.pid])
    for _ in range(4):
        rss = read(source)["rss_bytes"]
        assert rss is not None
        assert rss > 80 << 20
    assert "cpu_percent" in read(source)


def test_a_child_that_ended_drops_out_without_an_error(tree: Tree) -> None:
    source = ProcessTree()
    source.watch([tree.process.pid])
    before = read(source)["rss_bytes"]
    tree.say("end child")
    assert tree.answer() == "ended"
    after = read(source)
    assert before is not None
    assert after["rss_bytes"] is not None
    assert after["rss_bytes"] < before - (30 << 20)
    assert after["processes"] == 1


def test_a_child_whose_parent_ended_still_counts(tree: Tree) -> None:
    source = ProcessTree()
    source.watch([tree.process.pid])
    assert read(source)["processes"] == 2
    tree.say("leave child")
    tree.process.wait(30)
    rss = read(source)["rss_bytes"]
    assert rss is not None
    assert 40 << 20 < rss < 80 << 20


def test_a_zombie_is_an_ended_process(tree: Tree) -> None:
    source = ProcessTree()
    source.watch([tree.child])
    assert source.slow(1)
    psutil.Process(tree.child).kill()
    deadline = time.monotonic() + 30
    while psutil.Process(tree.child).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert source.slow(1) == []


class Passing:
    """A clock on which a second is over whenever it is told so."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.perf_counter_ns() + self.ahead_ns


def test_new_children_join_at_the_next_walk() -> None:
    clock = Passing()
    source = ProcessTree(clock)
    command = [sys.executable, "-I", "-c", GROWING, SCRIPT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as root:
        assert root.stdin is not None
        assert root.stdout is not None
        assert root.stdout.readline() == "up\n"
        source.watch([root.pid])
        before = read(source)["processes"]
        root.stdin.write("\n")
        assert root.stdout.readline().strip()
        clock.ahead_ns += WALK_AT_LEAST_NS
        after = read(source)["processes"]
        root.communicate("\n")
    assert before == 1
    assert after == before + 2


def test_nothing_is_read_of_nobody() -> None:
    source = ProcessTree()
    assert read(source) == {}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    source.watch([ended.pid])
    assert read(source) == {}
    source.watch([-1])
    assert read(source) == {}
    source.watch([2**70])
    assert read(source) == {}


def test_watching_can_end(tree: Tree) -> None:
    source = ProcessTree()
    source.watch([tree.process.pid])
    assert read(source)
    source.watch(())
    assert read(source) == {}


def test_a_foreign_process_is_a_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: psutil.Process) -> None:
        raise psutil.AccessDenied(self.pid)

    source = ProcessTree()
    source.watch([tree.process.pid])
    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    pss = [r for r in source.slow(process_tree.SLOW_TURN) if r.metric == "pss_bytes"]
    assert [reading.value for reading in pss] == [None]
    assert "another user" in pss[0].status


def test_a_hidden_process_is_a_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(pid: int) -> None:
        raise PermissionError(1, "Operation not permitted", f"/proc/{pid}/stat")

    monkeypatch.setattr(process_tree, "ProcessFile", hidden)
    source = ProcessTree()
    source.watch([tree.process.pid])
    readings = source.slow(1)
    assert {reading.metric: reading.value for reading in readings} == {"rss_bytes": None, "cpu_percent": None}
    assert all("another user" in reading.status for reading in readings)
    source.watch(())
    assert source.slow(1) == []


def test_nothing_is_walked_while_nobody_begins_a_process(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    newest = [7]

    def counted(pids: dict[int, object]) -> list[int]:
        walks.append(len(pids))
        return []

    class Newest:
        def read(self) -> int:
            return newest[0]

    now = [0]
    monkeypatch.setattr(process_tree, "descendants", counted)
    monkeypatch.setattr(process_tree, "NewestPid", Newest)
    source = ProcessTree(lambda: now[0])
    source.watch([tree.process.pid])
    for _ in range(4):
        now[0] += 1_000_000_000
        read(source)
    assert len(walks) == 1, "the first, when it was told whom to watch"
    newest[0] = 8
    now[0] += 1_000_000_000
    read(source)
    read(source)
    assert len(walks) == 2
    now[0] += WALK_AT_LEAST_NS
    read(source)
    assert len(walks) == 3, "the newest PID may be the one before by chance"


def test_pss_of_a_giant_is_left_out_with_the_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "PSS_AT_MOST", 1 << 20)
    source = ProcessTree()
    source.watch([tree.process.pid])
    (pss,) = (r for r in source.slow(process_tree.SLOW_TURN) if r.metric == "pss_bytes")
    assert pss.value is None
    assert "2 GiB" in pss.status


def test_descendants_are_found_with_and_without_the_kernels_lists(tree: Tree) -> None:
    own = psutil.Process().pid
    assert tree.child in descendants([own])
    assert descendants([tree.process.pid]) == [tree.child]
    assert descendants([tree.process.pid, tree.child]) == []
    assert scanned_children()(tree.process.pid) == [tree.child]
    listed = listed_children(tree.process.pid)
    assert listed in ([tree.child], []), "some kernels keep no lists"
    assert descendants([2**22 + 1]) == []


def test_no_file_stays_open_of_a_tree_that_is_not_watched_any_more(tree: Tree) -> None:
    source = ProcessTree()
    before = psutil.Process().num_fds()
    source.watch([tree.process.pid])
    assert read(source)
    assert psutil.Process().num_fds() == before + 2
    source.watch(())
    assert read(source) == {}
    assert psutil.Process().num_fds() == before

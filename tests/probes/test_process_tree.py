"""The measured process tree, with real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from probes import process_tree
from probes.process_tree import ProcessTree

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


class Tree:
    def __init__(self) -> None:
        script = f"CHILD = {CHILD!r}\n" + PARENT
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
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
    return {reading.metric: reading.value for reading in (*source.fast(), *source.slow(process_tree.SLOW_TURN))}


def test_memory_and_count_are_the_whole_trees(tree: Tree) -> None:
    source = ProcessTree()
    source.watch(tree.process.pid)
    values = read(source)
    rss, pss = values["rss_bytes"], values["pss_bytes"]
    assert values["processes"] == 2
    assert rss is not None
    assert rss > 80 << 20
    assert pss is not None
    assert 80 << 20 < pss <= rss * 1.01


def test_cpu_is_the_trees_and_needs_two_looks(tree: Tree) -> None:
    source = ProcessTree()
    source.watch(tree.process.pid)
    assert "cpu_percent" not in {reading.metric for reading in source.fast()}
    tree.say("burn")
    began = psutil.Process(tree.process.pid).cpu_times().user
    deadline = time.monotonic() + 60
    while psutil.Process(tree.process.pid).cpu_times().user < began + 0.2 and time.monotonic() < deadline:
        subprocess.run([sys.executable, "-c", ""], check=True)
    cpu = {reading.metric: reading.value for reading in source.fast()}["cpu_percent"]
    assert cpu is not None
    assert 1 < cpu < 400


def test_a_tree_too_big_for_one_tick_keeps_its_last_values(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "AT_ONCE", 1)
    source = ProcessTree()
    source.watch(tree.process.pid)
    for _ in range(4):
        rss = read(source)["rss_bytes"]
        assert rss is not None
        assert rss > 80 << 20
    assert "cpu_percent" in read(source)


def test_a_child_that_ended_drops_out_without_an_error(tree: Tree) -> None:
    source = ProcessTree()
    source.watch(tree.process.pid)
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
    source.watch(tree.process.pid)
    assert read(source)["processes"] == 2
    tree.say("leave child")
    tree.process.wait(30)
    rss = read(source)["rss_bytes"]
    assert rss is not None
    assert 40 << 20 < rss < 80 << 20


def test_a_zombie_is_an_ended_process(tree: Tree) -> None:
    source = ProcessTree()
    source.watch(tree.child)
    assert source.fast()
    psutil.Process(tree.child).kill()
    deadline = time.monotonic() + 30
    while psutil.Process(tree.child).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert source.fast() == ()


def test_new_children_join_at_the_next_walk() -> None:
    source = ProcessTree()
    source.watch(psutil.Process().pid)
    before = read(source)["processes"]
    tree = Tree()
    try:
        after = read(source)["processes"]
    finally:
        tree.say("end child")
        tree.process.communicate()
    assert before is not None
    assert after == before + 2


def test_nothing_is_read_of_nobody() -> None:
    source = ProcessTree()
    assert read(source) == {}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    source.watch(ended.pid)
    assert read(source) == {}
    source.watch(-1)
    assert read(source) == {}
    source.watch(2**70)
    assert read(source) == {}


def test_watching_can_end(tree: Tree) -> None:
    source = ProcessTree()
    source.watch(tree.process.pid)
    assert read(source)
    source.watch(None)
    assert read(source) == {}


def test_a_foreign_process_is_a_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: psutil.Process) -> None:
        raise psutil.AccessDenied(self.pid)

    source = ProcessTree()
    source.watch(tree.process.pid)
    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    pss = [r for r in (*source.fast(), *source.slow(process_tree.SLOW_TURN)) if r.metric == "pss_bytes"]
    assert [reading.value for reading in pss] == [None]
    assert "another user" in pss[0].status
    monkeypatch.setattr(psutil.Process, "memory_info", denied)
    rss = [reading for reading in source.fast() if reading.metric == "rss_bytes"]
    assert [reading.value for reading in rss] == [None]


def test_pss_of_a_giant_is_left_out_with_the_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "PSS_AT_MOST", 1 << 20)
    source = ProcessTree()
    source.watch(tree.process.pid)
    (pss,) = (r for r in (*source.fast(), *source.slow(process_tree.SLOW_TURN)) if r.metric == "pss_bytes")
    assert pss.value is None
    assert "2 GiB" in pss.status


def test_children_are_found_without_the_kernels_lists(tree: Tree) -> None:
    assert process_tree._children(tree.process.pid) == [tree.child]
    assert process_tree._children_by_psutil(tree.process.pid) == [tree.child]

"""The steps that scale.py measures, each of which it runs in a process of its own, in a home that was made for it.

A step imports what it needs itself, so that its peak memory holds nothing else, before its clock starts. It returns its
`seconds` and how much it went through.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path


def step_list(home: Path) -> dict[str, float]:
    """The rows of all sessions, as the Sessions screen and the command line read them."""
    from sessions.disk.store import Store

    store = Store(home / "sessions")
    began = time.perf_counter()
    rows = store.listed()
    seconds = time.perf_counter() - began
    assert rows
    assert all(not row.problem for row in rows)
    return {"seconds": seconds, "rows": len(rows)}


def step_list_first(home: Path) -> dict[str, float]:
    """The same where no row is kept from an earlier time."""
    shutil.rmtree(home / "cache", ignore_errors=True)
    return step_list(home)


def step_compare_two(home: Path) -> dict[str, float]:
    """Two sessions, the oldest and the newest, out of all."""
    return _compared(home, lambda ids: [ids[0], ids[-1]])


def step_compare_all(home: Path) -> dict[str, float]:
    """All sessions in one table."""
    return _compared(home, list)


def _compared(home: Path, pick: Callable[[list[str]], list[str]]) -> dict[str, float]:
    from sessions.disk.store import Store
    from sessions.verdict.comparison import compare

    store = Store(home / "sessions")
    picks = [(session, None) for session in pick(store.ids())]
    began = time.perf_counter()
    comparison = compare(store, picks, anyway=True)
    seconds = time.perf_counter() - began
    assert not comparison.problems
    assert all(row.tok_s_mean for row in comparison.rows)
    return {"seconds": seconds, "rows": len(comparison.rows)}


def step_screen(home: Path) -> dict[str, float]:
    """The Sessions screen, from its key to its rows."""
    return _screen(home)[0]


def step_filter(home: Path) -> dict[str, float]:
    """A word typed into the filter of that screen, until the rows that match are shown."""
    return _screen(home)[1]


def _screen(home: Path) -> tuple[dict[str, float], dict[str, float]]:
    import asyncio

    from textual.widgets import Input

    from tui.app import Workbench
    from tui.screens.sessions import SessionsScreen

    async def drive() -> tuple[float, float]:
        app = Workbench(home, home / "config")
        async with app.run_test(size=(160, 48)) as pilot:
            await pilot.pause()
            began = time.perf_counter()
            await pilot.press("2")
            screen = app.screen
            assert isinstance(screen, SessionsScreen)
            while not screen.rows.rows:
                await asyncio.sleep(0.002)
            await pilot.pause()
            shown = time.perf_counter() - began
            box = screen.query_one("#filter", Input)
            total = len(screen.rows.rows)
            began = time.perf_counter()
            box.value = "week0"
            while len(screen.rows.rows) == total:
                await asyncio.sleep(0.001)
            await pilot.pause()
            return shown, time.perf_counter() - began

    shown, filtered = asyncio.run(drive())
    return {"seconds": shown}, {"seconds": filtered}


def step_workbench(home: Path) -> dict[str, float]:
    """The workbench as a process in a terminal, to its first picture."""
    from sessions.run.own_process import own_process
    from tests.tui.terminal import Terminal

    environment = {**os.environ, "KASOKU_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    terminal = Terminal(160, 48, live=False)
    terminal.start(own_process("tui.command_line"), environment)
    assert terminal.wait_until_sent(b"sessions", 60)
    time.sleep(0.5)
    terminal.hang_up()
    painted = next(frame.at for frame in terminal.frames() if any("sessions" in line for line in frame.lines))
    return {"seconds": painted - terminal.began}


def step_quote(home: Path) -> dict[str, float]:
    """The session in the terms of another tool, which takes the gaps between all tokens."""
    from sessions.disk.store import Store
    from tui.commands.other_tools import show_as

    store = Store(home / "sessions")
    folder = store.folder("last")
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        show_as(folder, store, "vllm", True)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "methods": len(json.loads(said.getvalue())["methods"])}


def step_compare(home: Path) -> dict[str, float]:
    """The session's own comparison."""
    return _compared(home, list)


def step_follow(home: Path) -> dict[str, float]:
    """A viewer that comes late: all of the journal, a snapshot ten times a second."""
    from sessions.disk.store import Store
    from sessions.watch.following import Follower

    store = Store(home / "sessions")
    began = last = time.perf_counter()
    follower = Follower(store.folder("last"))
    while follower.poll(128 << 10):
        if (now := time.perf_counter()) - last >= 0.1:
            last = now
            follower.snapshot()
    live = follower.snapshot()
    seconds = time.perf_counter() - began
    assert live.status == "finished"
    assert not follower.rejected
    return {"seconds": seconds, "requests": sum(method.requests_done for method in live.methods)}


def step_finalise(home: Path) -> dict[str, float]:
    """From the journal to the four frames and session.json, as whoever opens an interrupted session does it."""
    import polars as pl

    from sessions.close.session_end import recover
    from sessions.disk.store import Store

    folder = Store(home / "sessions").folder("last")
    for frame in ("runs", "requests", "tokens", "telemetry"):
        folder.frame(frame).unlink(missing_ok=True)
    began = time.perf_counter()
    recover(folder)
    seconds = time.perf_counter() - began
    assert folder.read().error == "", folder.read().error
    return {"seconds": seconds, "tokens": pl.scan_parquet(folder.frame("tokens")).select(pl.len()).collect().item()}


def step_open(home: Path) -> dict[str, float]:
    """The session in full, as the Session screen reads it from the frames."""
    from sessions.disk.store import Store
    from tui.read.session_facts import read_session

    began = time.perf_counter()
    facts = read_session(Store(home / "sessions"), "last")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "requests": len(facts.requests)}


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {
    name.removeprefix("step_").replace("_", "-"): step
    for name, step in list(globals().items())
    if name.startswith("step_")
}

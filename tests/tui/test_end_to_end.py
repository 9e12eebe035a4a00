"""The workbench in a terminal, by keys alone, on the real default model: from the plan to a CSV that says the same."""

from __future__ import annotations

import csv
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from methods.base.home import config_folder, home
from probes.gpu.nvml import Nvml
from sessions.device.devices import choose
from sessions.disk.store import Store
from sessions.planning.offer import offer_on
from tests.tui.terminal import Terminal
from tui.read.form_rows import form_rows
from tui.words import figures

pytestmark = [pytest.mark.model, pytest.mark.engines]
SPACE, TAB, ESCAPE, UP, DOWN = b" ", b"\t", b"\x1b", b"\x1b[A", b"\x1b[B"
QUICK = {"baseline", "library-default", "torch-compile", "torch-compile-wrapper"}
KASOKU = [sys.executable, "-c", "from tui.command_line import main; raise SystemExit(main())"]


def environment() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(Path.cwd())}


def unboxed(text: str) -> str:
    """On one line, without the borders of panels."""
    return " ".join(text.replace("│", " ").split())


def judged(text: str) -> set[str]:
    """The methods with a whole block, at work again or not: of these it is known whether they were in effect."""
    return {found[1] for line in text.splitlines() if (found := re.search(r"[✓▶] (\S+) .* (yes|NO)\b", line))}


def plan_two_methods(terminal: Terminal, requests: int, tokens: int) -> None:
    """On the form: untick all but the first two methods, and ask for less than the preset."""
    terminal.wait_for(
        lambda text: "[✓] baseline" in text and "32 tokens a request" in unboxed(text), 30, "the checked plan"
    )
    choices = tuple(offer_on(choose(None, Nvml()), home(), config_folder()).choices.values())
    quick = {choice.method.name for choice in choices if "quick" in choice.method.presets}
    rows = [row.key for row in form_rows(choices, quick, ())]
    places = [place for place, key in enumerate(rows) if key in quick]
    terminal.press(*[DOWN] * places[-1], SPACE)
    for below, place in pairwise(places[:1:-1]):  # upwards: a row that is folded moves those below it
        terminal.press(*[UP] * (below - place), SPACE)
    terminal.press(*[UP] * places[2])  # to the top, where low terminals show both that are left
    terminal.wait_for(  # checked, too: what is painted after a key has to be its answer
        lambda text: text.count("[✓]") == 2 and "2 methods, " in unboxed(text), 60, "two ticked methods"
    )
    terminal.press_each(*[TAB] * 5, str(requests).encode(), *[TAB] * 5, str(tokens).encode(), ESCAPE)
    said = f"2 methods, {requests} requests a method in 3 blocks, {tokens} tokens a request"
    terminal.wait_for(lambda text: said in unboxed(text), 20, said)


@pytest.fixture
def none_left_running(home: Path) -> Iterator[Store]:
    """The store of the test's home; a session that a failed test left running is stopped."""
    store = Store(home / "sessions")
    yield store
    for session in store.live():
        store.folder(session).ask("stop")
    until = time.monotonic() + 120
    while store.live():
        assert time.monotonic() < until, "a session did not stop"
        time.sleep(0.1)


def test_from_an_empty_home_to_a_compared_and_exported_result_takes_a_dozen_keys_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is there: the environment is made on the way, from what uv has in its cache, and the smallest model that
    needs no download is taken. The quick preset would go on until it is sure; it is stopped after a round."""
    out = tmp_path / "work"
    out.mkdir()
    monkeypatch.setenv("KASOKU_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KASOKU_CONFIG", str(tmp_path / "config"))
    terminal = Terminal(120, 40)
    terminal.start(["/bin/sh", "-c", f'cd {out} && exec "$0" "$@"', *KASOKU], environment())
    pressed: list[bytes] = []

    def press(key: bytes, seen: Callable[[str], object], deadline_s: float, what: str) -> str:
        pressed.append(key)
        terminal.press(key)
        return terminal.wait_for(seen, deadline_s, what)

    try:
        terminal.wait_for(
            lambda text: "nothing has been measured here yet" in text and "it creates the environment torch" in text
            and "32 tokens a request" in unboxed(text),
            30, "the first-time panel and the checked plan",
        )  # fmt: skip
        press(b"M", lambda text: "synthetic:tiny-llama" in text, 30, "the models")
        for key in (b"y", b"-", b"l"):
            press(key, lambda text: "tiny-llama" in text, 10, "the one that the letters leave")
        terminal.wait_for(lambda text: "synthetic:tiny-gpt2" not in text, 10, "no other")
        press(b"\r", lambda text: re.search(r"model +synthetic:tiny-llama", text), 30, "the model in its field")
        press(
            b"r", lambda text: re.search(r"· block 2", text.splitlines()[0]) and judged(text) == QUICK,
            500, "the second round, whichever of them begins it, and what the first said of all",
        )  # fmt: skip
        press(b"s", lambda text: "Stop the session?" in text, 30, "the question")
        press(b"y", lambda text: "stopped" in text.splitlines()[0], 60, "the stopped session")
        text = press(b"3", lambda text: "rows of 1 session" in text and "tok/s ±95 %" in text, 60, "the comparison")
        press(b"e", lambda text: "Wrote" in text, 60, "where the CSV went")
        pressed.append(b"q")
        terminal.press(b"q")
        assert terminal.wait_until_ended(60) == 0
    finally:
        terminal.hang_up()
        store = Store(tmp_path / "home" / "sessions")
        for session in store.live():  # of a test that failed
            store.folder(session).ask("stop")
    assert len(pressed) <= 12
    (file,) = out.glob("kasoku-compare-*.csv")
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    assert {row["method"] for row in rows} == QUICK
    assert all(figures.rate(float(row["tok_s_mean"])) in text for row in rows)


def test_closing_the_terminal_leaves_the_session_and_the_next_workbench_shows_it(
    default_model: object, none_left_running: Store
) -> None:
    terminal = Terminal(100, 30)
    terminal.start(KASOKU, environment())
    try:
        plan_two_methods(terminal, 30, 40)
        terminal.press(b"r")
        terminal.wait_for(lambda text: re.search(r"· \d+ tokens", text), 120, "tokens")
    finally:
        terminal.hang_up()
    assert terminal.status is not None
    store = none_left_running
    (session,) = store.live()
    again = Terminal(100, 30)
    again.start(KASOKU, environment())
    try:
        again.wait_for(
            lambda text: "method " in text.splitlines()[0] and "library-default" in text, 30, "the running session"
        )
        again.press(b"s")
        again.wait_for(lambda text: "Stop the session?" in text, 60, "the question")
        again.press(b"y")
        again.wait_for(lambda text: "stopped" in text.splitlines()[0], 60, "the stopped session")
        again.press(b"q")
        assert again.wait_until_ended(60) == 0
    finally:
        again.hang_up()
    assert store.live() == []
    assert store.folder(session).read().status == "stopped"

"""The Sessions screen: the list, its filter, and what can be done with a session."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sessions.disk.store import Store
from tests.tui.conftest import DEAD, FIRST, SECOND, make_saved, workbench
from tests.tui.screen_text import as_kept, until
from tui.screens.ask import AskText, Confirm
from tui.screens.session import SessionScreen
from tui.screens.sessions import SessionsScreen


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_all_sessions_are_listed_newest_first(saved: Path, size: tuple[int, int]) -> None:
    async with workbench(saved).run_test(size=size, notifications=True) as pilot:
        await pilot.press("2")
        text = await until(pilot, lambda text: "3 sessions" in text and "interrupted" in text, "the list")
        places = [text.index(word) for word in ("cccccc", "bbbbbb", "first look")]
        assert places == sorted(places)
        assert "torch-compile" in text
        text = await until(pilot, lambda text: f"{DEAD} ·" in text, "the line below")
        await as_kept(f"sessions-{size[0]}x{size[1]}", pilot)


async def test_the_filter_narrows_as_it_is_typed(saved: Path) -> None:
    async with workbench(saved).run_test(notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "3 sessions" in text, "the list")
        await pilot.press("slash", *"first")
        await until(pilot, lambda text: "1 of 3" in text and "interrupted" not in text, "one session")
        await pilot.press("enter", "escape")
        await until(pilot, lambda text: "3 sessions" in text, "all again")


async def test_columns_sort_and_what_is_unknown_comes_last(saved: Path) -> None:
    async with workbench(saved).run_test(size=(160, 30), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "3 sessions" in text, "the list")
        screen = pilot.app.screen
        assert isinstance(screen, SessionsScreen)
        await pilot.press("o")
        await until(pilot, lambda text: "when ▲" in text, "sorted by time")
        await pilot.press("o")
        await until(pilot, lambda text: "name ▲" in text, "sorted by name")
        assert screen.rows.rows[0].id == FIRST
        await pilot.press("O")
        assert screen.rows.rows[0].id == FIRST  # the others have no name


async def test_enter_opens_a_session_and_escape_comes_back(saved: Path) -> None:
    async with workbench(saved).run_test(notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "3 sessions" in text, "the list")
        await pilot.press("down", "enter")
        await until(pilot, lambda text: f"session {SECOND}" in text, "the session")
        assert isinstance(pilot.app.screen, SessionScreen)
        await pilot.press("escape")
        await until(pilot, lambda text: "3 sessions" in text, "the list again")


async def test_a_session_is_named_tagged_and_deleted(tmp_path: Path) -> None:
    home = make_saved(tmp_path / "home")
    async with workbench(home).run_test(size=(120, 30), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "3 sessions" in text, "the list")
        await pilot.press("down", "n")
        await until(pilot, lambda _: isinstance(pilot.app.screen, AskText), "the question")
        await pilot.press(*"night", "enter")
        await until(pilot, lambda text: "night" in text, "the name")
        await pilot.press("t")
        await until(pilot, lambda _: isinstance(pilot.app.screen, AskText), "the question")
        await pilot.press(*"h200, cold", "enter")
        await until(pilot, lambda text: "night #cold #h200" in text, "the tags")
        await pilot.press("x")
        await until(pilot, lambda _: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("escape")
        assert Store(home / "sessions").folder(SECOND).read().name == "night"
        await until(pilot, lambda text: "3 sessions" in text, "the list")
        await pilot.press("x")
        await until(pilot, lambda _: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("y")
        await until(pilot, lambda text: "2 sessions" in text and "night" not in text, "the shorter list")
    assert SECOND not in Store(home / "sessions").ids()


async def test_export_says_where_the_files_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_saved(tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    async with workbench(home).run_test(size=(160, 40), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "3 sessions" in text, "the list")
        await pilot.press("down", "down", "e")
        await until(pilot, lambda text: "Wrote runs.csv, requests.csv" in text, "the message")
    written = tmp_path / f"kasoku-{FIRST}"
    assert sorted(path.name for path in written.iterdir()) == [
        "fidelity.csv",
        "requests.csv",
        "runs.csv",
        "telemetry.csv",
        "tokens.csv",
    ]


async def test_an_unreadable_session_is_a_row_that_says_why(tmp_path: Path) -> None:
    home = make_saved(tmp_path / "home")
    (home / "sessions" / SECOND / "session.json").write_bytes(b"\x1b[31m{")
    async with workbench(home).run_test(size=(120, 30), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "unreadable" in text, "the row")
        await pilot.press("down")
        await until(pilot, lambda text: "session.json" in text and "damaged" in text, "the reason")
        await pilot.press("enter")
        await until(pilot, lambda text: "damaged" in text and "overview" in text, "the sentence on its screen")


async def test_names_with_markup_and_escapes_are_shown_as_text(tmp_path: Path) -> None:
    home = make_saved(tmp_path / "home")
    Store(home / "sessions").relabel(SECOND, name="[red]a\x1b[2Jb[/]")
    async with workbench(home).run_test(size=(160, 30), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "[red]a�[2Jb[/]" in text, "the name as it is")


async def test_thousands_of_sessions_stay_instant(tmp_path: Path) -> None:
    home = make_saved(tmp_path / "home")
    pattern = home / "sessions" / SECOND
    for number in range(3000):
        copy = home / "sessions" / f"20260101-{number:06d}-000000"
        copy.mkdir()
        (copy / "session.json").symlink_to(pattern / "session.json")
    async with workbench(home).run_test(notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "3003 sessions" in text, "the list", 60)
        began = time.process_time()
        await pilot.press("end")
        await until(pilot, lambda text: "000000" in text, "the end of the list")
        await pilot.press("slash", *"first")
        await until(pilot, lambda text: "1 of 3003" in text, "one session")
        assert time.process_time() - began < 2.0

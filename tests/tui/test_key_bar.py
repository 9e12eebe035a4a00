"""The line of keys: what a screen offers is in it, or it says how much more help has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.conftest import FIRST, workbench
from tests.tui.screen_text import screen_text, settled, until
from tui.app import Workbench
from tui.screens.session import SessionScreen
from tui.widgets.facts import Facts
from tui.widgets.key_bar import KeyBar

SIZES = [(60, 24), (80, 24), (200, 60)]
SCREENS = ("run", "sessions", "compare", "session", "methods")


async def bring(pilot: Pilot[Any], screen: str) -> None:
    """To the front, until it stands still."""
    app = pilot.app
    assert isinstance(app, Workbench)
    match screen:
        case "compare":
            await app.compare_sessions([FIRST])
            await until(pilot, lambda text: "rows of 1 session" in text, "the comparison")
        case "session":
            await app.push_screen(SessionScreen(FIRST))
            await until(pilot, lambda text: f"session {FIRST}" in text, "the session")
        case _:
            await pilot.press({"run": "1", "sessions": "2", "methods": "4"}[screen])
    await settled(pilot)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("screen", SCREENS)
async def test_nothing_that_is_offered_is_left_out_without_a_word(
    saved: Path, screen: str, size: tuple[int, int]
) -> None:
    async with workbench(saved).run_test(size=size, notifications=True) as pilot:
        await bring(pilot, screen)
        bar = pilot.app.screen.query_one(KeyBar)
        offered = [binding for name, binding in bar._offered().items() if not name.startswith(("screen.", "app."))]
        (line,) = bar.draw(bar.content_size.width)
        said = "".join(text for text, _ in line)
        missing = [each for each in offered if f" {each.description}  " not in said]
        assert len(said.rstrip()) <= bar.content_size.width
        assert said.endswith("? help  " if not missing else f"? {len(missing)} more  ")
        assert not missing or size[0] < 200
        await pilot.press("question_mark")
        await until(pilot, lambda text: "Help: escape closes it" in text, "help")
        keys = [line[0][0].strip() for facts in pilot.app.screen.query(Facts) for line in facts.draw(70)]
        assert {pilot.app.get_key_display(each) for each in offered} <= set(keys)


async def test_what_is_open_is_offered_before_what_is_always_there(saved: Path) -> None:
    async with workbench(saved).run_test(size=(80, 24), notifications=True) as pilot:
        await bring(pilot, "compare")
        assert re.search(r"  f fidelity  e export  ", screen_text(pilot.app).splitlines()[-1])


async def test_in_a_field_the_way_out_is_said_and_help_has_a_key_that_is_no_text(saved: Path) -> None:
    async with workbench(saved).run_test(size=(80, 24), notifications=True) as pilot:
        await bring(pilot, "run")
        pilot.app.screen.query(Input).first().focus()
        text = await until(pilot, lambda text: "leave the field" in text.splitlines()[-1], "the way out")
        assert text.splitlines()[-1].split() == ["esc", "leave", "the", "field", "f1", "help"]
        await pilot.press("f1")
        await until(pilot, lambda text: "Help: escape closes it" in text, "help")


async def test_help_has_the_keys_of_what_is_around_the_focus(running: Path) -> None:
    async with workbench(running).run_test(size=(80, 50), notifications=True) as pilot:
        await until(pilot, lambda text: "▶ flash-attention-2" in text, "the race")
        await pilot.press("question_mark")
        text = await until(pilot, lambda text: "Help: escape closes it" in text, "help")
        assert "[live.time_line]" in text

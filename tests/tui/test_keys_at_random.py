"""Keys in any order and faster than screens come and go: the workbench stays."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen

from tests.tui.conftest import make_saved, workbench
from tui.screens.ask import AskText, Confirm
from tui.screens.help import HelpScreen
from tui.screens.palette import Palette

# Without r, which would begin a measurement, and q, which leaves.
KEYS = [*"1234?pbaeouxdjkhl/tn ", "enter", "escape", "tab", "up", "down", "left", "right", "ctrl+p", "pagedown", "end"]
ON_TOP: dict[str, Callable[[Screen[Any]], Screen[Any]]] = {
    "the palette": lambda _: Palette(id="--command-palette"),
    "a question": lambda _: Confirm("Really?"),
    "a line to type": lambda _: AskText("Name", ""),
    "the help": HelpScreen,
}


@pytest.mark.parametrize("name", ON_TOP)
async def test_what_lies_on_top_goes_once_however_often_it_is_told_to(name: str, bare: Path) -> None:
    app = workbench(bare)
    async with app.run_test() as pilot:
        below = app.screen
        on_top = ON_TOP[name](below)
        await app.push_screen(on_top)
        on_top.dismiss()
        on_top.dismiss()
        await pilot.pause()
        assert app.screen is below


async def test_a_command_is_carried_out_however_fast_enter_is_pressed(bare: Path) -> None:
    app = workbench(bare)
    async with app.run_test() as pilot:
        await pilot.press("ctrl+p", *"Compare")
        for _ in range(6):
            await pilot.press("enter", "enter")
        await pilot.pause()
        assert app.is_running
        assert app.current_mode == "compare"


@pytest.mark.parametrize("seed", range(2))
async def test_keys_at_random_do_not_end_it(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where exports go
    drawn = random.Random(seed)  # noqa: S311 - keys, not secrets
    app = workbench(make_saved(tmp_path))
    async with app.run_test(size=(80, 24)) as pilot:
        pressed = [drawn.choice(KEYS) for _ in range(80)]
        for key in pressed:
            await pilot.press(key)
        await pilot.pause()
        assert app.is_running, f"it ended within {pressed}"
        while len(app.screen_stack) > 1:
            await app.pop_screen()
        await pilot.press("escape", "escape")
        app.action_show("sessions")
        await pilot.pause()
        assert app.current_mode == "sessions"

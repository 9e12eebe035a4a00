"""What an app in a test shows, as text; and its comparison with a text that is kept in the repository.

An own comparison of twenty lines: pytest-textual-snapshot would hold pytest below 9, and compares SVG, in which every
release of Textual moves an id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot

SCREENS = Path(__file__).with_name("screens")
UPDATE = "KASOKU_UPDATE_SCREENS"


def screen_text(app: App[Any]) -> str:
    """The lines of the screen in front, without the blanks at their ends."""
    lines = [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]
    return "\n".join(lines) + "\n"


async def until(pilot: Pilot[Any], seen: Callable[[str], object], what: str, deadline_s: float = 60) -> str:
    """The screen's text once `seen` is true of it; an AssertionError with the screen after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        text = screen_text(pilot.app)
        if seen(text):
            return text
        assert time.monotonic() < end, f"never saw {what}; the screen was:\n{text}"
        await pilot.pause(0.05)  # a look renders the whole screen


async def settled(pilot: Pilot[Any], deadline_s: float = 60) -> str:
    """The screen's text once it has stood still: layouts follow each other over several refreshes."""
    end = time.monotonic() + deadline_s
    before = ""
    while (text := screen_text(pilot.app)) != before:
        assert time.monotonic() < end, "the screen does not come to rest"
        before = text
        await pilot.pause(0.3)
    return text


def in_mid_run(text: str) -> bool:
    """Whether the fixture `running` is wholly shown: the request that runs, and the table down to its last row."""
    return "· request 6 ·" in text and "✓ torch-compile " in text and "335/700 W" in text


def assert_as_kept(name: str, text: str) -> None:
    """The text is that of screens/NAME.txt; with $KASOKU_UPDATE_SCREENS set it is written there instead."""
    kept = SCREENS / f"{name}.txt"
    if os.environ.get(UPDATE):
        SCREENS.mkdir(exist_ok=True)
        kept.write_text(text, encoding="utf-8")
    assert kept.is_file(), f"{kept} is not there: look at the screen and run the test with {UPDATE}=1"
    assert text == kept.read_text(encoding="utf-8"), f"the screen changed; where that is meant: {UPDATE}=1"

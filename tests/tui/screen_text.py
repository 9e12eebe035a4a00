"""What an app in a test shows, as text and styles; and its comparison with what is kept in the repository.

An own comparison of thirty lines: pytest-textual-snapshot would hold pytest below 9, and compares SVG, in which every
release of Textual moves an id.
"""

from __future__ import annotations

import os
import string
import time
from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from textual.app import App
from textual.pilot import Pilot

SCREENS = Path(__file__).with_name("screens")
UPDATE = "KASOKU_UPDATE_SCREENS"
LETTERS = string.ascii_letters + string.digits


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


def screen_styles(app: App[Any]) -> str:
    """The style of each cell of the screen in front: a line for each style with its letter, then the letters."""
    letters: dict[str, str] = {}
    lines = []
    for strip in app.screen._compositor.render_strips():
        cells = []
        for segment in strip:
            style = str(segment.style or "none")
            letter = letters.setdefault(style, LETTERS[len(letters)])
            cells.append(letter * cell_len(segment.text))
        lines.append("".join(cells))
    return "\n".join([*(f"{letter} = {style}" for style, letter in letters.items()), "", *lines]) + "\n"


async def as_kept(name: str, pilot: Pilot[Any], deadline_s: float = 60) -> None:
    """Wait until text and style of each cell are those of screens/NAME.txt and NAME.styles; an AssertionError with
    what differs after the deadline. With $KASOKU_UPDATE_SCREENS set they are written there instead."""
    looks = {"txt": screen_text, "styles": screen_styles}
    files = {kind: SCREENS / f"{name}.{kind}" for kind in looks}
    if os.environ.get(UPDATE):
        await settled(pilot)
        SCREENS.mkdir(exist_ok=True)
        for kind, look in looks.items():
            files[kind].write_text(look(pilot.app), encoding="utf-8")
    missing = [str(file) for file in files.values() if not file.is_file()]
    assert not missing, f"{missing} are not there: look at the screen and run the test with {UPDATE}=1"
    kept = {kind: file.read_text(encoding="utf-8") for kind, file in files.items()}
    end = time.monotonic() + deadline_s
    while (shown := {kind: look(pilot.app) for kind, look in looks.items()}) != kept:
        if time.monotonic() > end:
            lines = [
                "\n".join(unified_diff(kept[kind].split("\n"), shown[kind].split("\n"), "kept", "shown", n=0))
                for kind in looks
            ]
            raise AssertionError(f"the screen changed; where that is meant: {UPDATE}=1\n" + "\n".join(lines))
        await pilot.pause(0.1)

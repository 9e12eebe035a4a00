"""The gauges are there at every size, also where nothing new has come since the terminal became another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.conftest import FIRST, workbench
from tests.tui.screen_text import in_mid_run, settled, until
from tui.widgets.live_text import LiveText, wrap


async def test_a_terminal_that_becomes_smaller_and_larger_keeps_its_gauges(running: Path) -> None:
    async with workbench(running).run_test(size=(160, 48), notifications=True) as pilot:
        await until(pilot, in_mid_run, "the request that runs")
        for size in ((80, 24), (200, 60), (100, 30)):
            await pilot.resize_terminal(*size)
            await until(pilot, in_mid_run, f"the gauges at {size}")


async def test_a_size_that_a_look_at_a_region_laid_out_first_is_told_all_the_same(running: Path) -> None:
    async with workbench(running).run_test(size=(200, 60), notifications=True) as pilot:
        await until(pilot, in_mid_run, "the request that runs")
        await settled(pilot)
        screen = pilot.app.screen
        text = screen.query_one(LiveText)
        text.styles.width = 60
        text._check_refresh()  # asks for a layout, which comes when the screen is idle
        screen._compositor.reflow_visible(screen, screen.size)  # what a pane does that scrolls
        assert screen._compositor.full_map[text].region.width == 60

        def wrapped(shown: str) -> bool:
            lines = wrap("", text.text, text.scrollable_content_region.width)
            return text.scrollable_content_region.width < 60 and all(line in shown for line in lines[-2:])

        await until(pilot, wrapped, "the end of the text, wrapped to its new width")


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (80, 30), (120, 30)])
async def test_what_came_of_a_session_leaves_the_curves_their_room_or_none(saved: Path, size: tuple[int, int]) -> None:
    app = workbench(saved)
    async with app.run_test(size=size, notifications=True) as pilot:
        await app.watch_session(app.store.folder(FIRST))
        await until(pilot, lambda text: "Session complete" in text and "the reference" in text, "what came of it")
        await settled(pilot)
        plot = app.screen.query_one("#plot")
        assert not plot.display or plot.content_size.height >= 4

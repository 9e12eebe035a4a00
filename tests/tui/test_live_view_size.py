"""The gauges are there at every size, also where nothing new has come since the terminal became another one."""

from __future__ import annotations

from pathlib import Path

from tests.tui.conftest import workbench
from tests.tui.screen_text import in_mid_run, until


async def test_a_terminal_that_becomes_smaller_and_larger_keeps_its_gauges(running: Path) -> None:
    async with workbench(running).run_test(size=(160, 48), notifications=True) as pilot:
        await until(pilot, in_mid_run, "the request that runs")
        for size in ((80, 24), (200, 60), (100, 30)):
            await pilot.resize_terminal(*size)
            await until(pilot, in_mid_run, f"the gauges at {size}")

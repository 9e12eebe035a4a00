"""Several sessions that run at once, here and on another host, a panel each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessions.disk.host_file import OnHost, write_host
from sessions.disk.session_folder import SessionFolder
from tests.tui.conftest import FIRST, SECOND, workbench
from tests.tui.journals import make_tokeniser, write_session
from tests.tui.screen_text import until
from tui.screens.all_running import AllRunningScreen
from tui.screens.ask import Confirm
from tui.screens.run import RunScreen
from tui.words.host_words import HOST_LOST

HOST = OnHost(on="ray://head:10001", host="h100", resource="accelerator_type:H100", folder="/there")


@pytest.fixture
def two(bare: Path) -> Iterator[dict[str, SessionFolder]]:
    """A home with two sessions in the middle of a request, the newer one on another host."""
    model = bare / "models" / "small"
    ids = make_tokeniser(model)
    folders = {
        session: write_session(bare, session=session, ended=False, model_folder=str(model), ids=ids)
        for session in (FIRST, SECOND)
    }
    write_host(folders[SECOND].path, HOST)
    locks = [folder.try_lock() for folder in folders.values()]
    assert None not in locks
    yield folders
    for lock in locks:
        assert lock is not None
        os.close(lock)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_the_workbench_opens_on_all_that_run_and_one_key_stops_them(
    two: dict[str, SessionFolder], bare: Path, size: tuple[int, int]
) -> None:
    async with workbench(bare).run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda _: isinstance(pilot.app.screen, AllRunningScreen), "all that run")
        text = await until(
            pilot, lambda text: "▶ flash-attention-2" in text and f"h100 · {SECOND}" in text, "the newer one's race"
        )
        assert "2 sessions running" in text
        await pilot.press("tab")
        await until(pilot, lambda text: f"here · {FIRST}" in text and "▶ flash-attention-2" in text, "the other one")
        write_host(two[SECOND].path, msgspec.structs.replace(HOST, lost_ns=1))
        await pilot.press("shift+tab")
        await until(pilot, lambda text: "out of reach; if it is up" in text, "that the host is out of reach")
        await pilot.press("enter")
        await until(pilot, lambda text: HOST_LOST in text, "that it is, where it is watched alone")
        write_host(two[SECOND].path, HOST)
        await until(pilot, lambda text: HOST_LOST not in text, "that it is reached again")
        await pilot.press("g")
        await until(pilot, lambda text: f"h100 · {SECOND}" in text, "all again")
        await pilot.press("s")
        await until(pilot, lambda _: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("y")
        asked = [folder.path / "requests" / "stop" for folder in two.values()]
        await until(pilot, lambda _: all(file.exists() for file in asked), "the requests to stop")


async def test_enter_watches_one_of_them_alone_and_g_shows_all_again(two: dict[str, SessionFolder], bare: Path) -> None:
    async with workbench(bare).run_test(size=(120, 36), notifications=True) as pilot:
        await until(pilot, lambda text: f"here · {FIRST}" in text, "both")
        await until(pilot, lambda _: pilot.app.focused is not None, "the first one has the focus")
        await pilot.press("tab", "enter")
        await until(pilot, lambda _: isinstance(pilot.app.screen, RunScreen), "the Run screen")
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        await until(pilot, lambda _: screen.running == FIRST, "the one that was chosen")
        await pilot.press("g")
        await until(pilot, lambda _: isinstance(pilot.app.screen, AllRunningScreen), "all again")
        await pilot.press("escape")
        await until(pilot, lambda _: pilot.app.screen is screen, "back")
    assert not any((folder.path / "requests").exists() for folder in two.values())

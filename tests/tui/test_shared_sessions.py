"""A team's sessions on the screens, beside one's own and marked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sessions.disk.store import Store
from sessions.published.publish import publish
from sessions.published.published import Published
from tests.tui.conftest import FIRST, SECOND, workbench
from tests.tui.journals import make_tokeniser, write_session
from tests.tui.screen_text import until
from tui.screens.compare import CompareScreen
from tui.screens.sessions import SessionsScreen


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home `mine` of one session, and the store `share` of another."""
    folder = tmp_path_factory.mktemp("team")
    for session, home in ((FIRST, "mine"), (SECOND, "theirs")):
        (folder / home).mkdir(mode=0o700)
        model = folder / home / "models" / "small"
        write_session(folder / home, session=session, model_folder=str(model), ids=make_tokeniser(model))
    (folder / "share").mkdir()
    publish(Store(folder / "theirs" / "sessions").folder(SECOND), store_in(folder), lambda _: None)
    return folder


def store_in(folder: Path) -> Published:
    return Published(str(folder / "share"), folder / "mine")


def unwrapped(text: str) -> str:
    """As one line: how long a path is depends on where the tests run."""
    return " ".join(text.split())


async def test_a_teams_sessions_are_listed_marked_compared_and_left_alone(shared: Path) -> None:
    app = workbench(shared / "mine", shared=store_in(shared))
    async with app.run_test(size=(150, 40), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "2 sessions" in text, "both")
        await pilot.press("up")
        await until(pilot, lambda text: f"in {shared / 'share'}" in unwrapped(text), "where it is")
        screen = pilot.app.screen
        assert isinstance(screen, SessionsScreen)
        assert [(row.id, bool(row.store)) for row in screen.rows.rows] == [(SECOND, True), (FIRST, False)]
        for key in ("n", "t", "u", "x"):
            await pilot.press(key)
            assert pilot.app.screen is screen
        await until(pilot, lambda text: f"{SECOND} is in the team's store" in text, "the refusal")
        await pilot.press("enter")
        await until(
            pilot, lambda text: f"session {SECOND}" in text and f"folder {shared / 'share'}" in unwrapped(text), "it"
        )
        await pilot.press("escape", "space", "down", "space", "c")
        await until(pilot, lambda text: "of 2 sessions" in text, "the comparison")
        compare = pilot.app.screen
        assert isinstance(compare, CompareScreen)
        await pilot.press("p")
        text = await until(pilot, lambda text: "store · " in text, "the picks")
        assert text.count("store · ") < len(compare.picks.rows), "one's own are not marked"


async def test_a_store_that_cannot_be_read_is_said_and_ones_own_sessions_are_there(
    shared: Path, tmp_path: Path
) -> None:
    shutil.copytree(shared / "share", tmp_path / "share")
    store = Published(str(tmp_path / "share"), shared / "mine")
    async with workbench(shared / "mine", shared=store).run_test(size=(150, 40), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda text: "2 sessions" in text, "both")
        (tmp_path / "share").rename(tmp_path / "unmounted")
        await pilot.press("f5")
        await until(pilot, lambda text: "is not there: mount its share" in text and "2 sessions" in text, "the reason")

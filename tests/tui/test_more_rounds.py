"""An open verdict is an offer: one key on the Run, Session and Compare screens, and the command below the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace
from tests.tui.conftest import workbench
from tests.tui.screen_text import until
from tui.screens.ask import Confirm


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    yield from opened(tmp_path)


async def test_one_key_asks_adds_the_rounds_that_a_verdict_needs_and_follows_them(place: Workplace) -> None:
    folder = place.run(place.method("one"), place.method("two", reference="one"), requests=2, blocks=2)
    said = place.command("show", folder.id)
    # how many depends on how much the two blocks of each happened to differ on this machine
    offer = re.search(
        rf"(about (\d+) more rounds?) would probably settle what is open: kasoku resume {folder.id} --blocks \+(\d+)\n",
        said.out,
    )
    assert offer is not None
    offered, rounds, asked = offer[1], int(offer[2]), int(offer[3])
    assert rounds == asked
    async with workbench(place.home, watch=folder.id).run_test(size=(120, 40), notifications=True) as pilot:
        app = pilot.app

        async def asks() -> str:
            await until(pilot, lambda text: "m more rounds" in text, "the offer")
            await pilot.press("m")
            return await until(pilot, lambda _: isinstance(app.screen, Confirm), "the question")

        await pilot.press("3")
        await asks()
        await pilot.press("n")
        await until(pilot, lambda _: not isinstance(app.screen, Confirm), "the comparison again")
        app.open_session(folder.id)  # type: ignore[attr-defined]
        await until(pilot, lambda text: "overview" in text, "the session")
        await asks()
        await pilot.press("n")
        await until(pilot, lambda _: not isinstance(app.screen, Confirm), "the session again")
        assert folder.read().extensions == []
        await pilot.press("1")
        text = await asks()
        assert f"Measure {offered} of {folder.id}?" in " ".join(text.replace("│", " ").split())
        await pilot.press("y")
        await until(pilot, lambda _: folder.read().extensions != [], "the session is extended")
        # where one round is enough, it can be over before it is looked at
        await until(
            pilot,
            lambda text: ("2/2" not in text and re.search(r"\d+/\d+", text)) or folder.read().status == "finished",
            "the new rounds' requests",
        )
    assert (folder.read().goal.blocks, folder.read().goal.since) == (2 + rounds, 2)
    folder.ask("stop")
    assert place.finished(folder) in ("stopped", "finished")

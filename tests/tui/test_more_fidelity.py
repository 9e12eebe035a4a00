"""A session that has ended without fidelity offers it: one key on the Run, Session and Compare screens."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessions.disk.extension import Extension
from sessions.disk.session_folder import SessionFolder
from tests.tui.conftest import FIRST, workbench
from tests.tui.screen_text import until
from tui.screens.ask import Confirm


async def test_the_key_asks_and_extends_the_session_by_its_fidelity(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Extension]] = []

    def extended(folder: SessionFolder, extension: Extension, home: Path) -> None:
        del home
        asked.append((folder.id, extension))

    monkeypatch.setattr("sessions.run.launch.extend", extended)
    async with workbench(saved).run_test(size=(140, 48), notifications=True) as pilot:
        app = pilot.app

        async def asks() -> str:
            await until(pilot, lambda text: "f fidelity" in text, "the offer")
            await pilot.press("f")
            return await until(pilot, lambda _: isinstance(app.screen, Confirm), "the question")

        await app.compare_sessions([FIRST])  # type: ignore[attr-defined]
        await asks()
        await pilot.press("n")
        await until(pilot, lambda _: not isinstance(app.screen, Confirm), "the comparison again")
        assert asked == []
        app.open_session(FIRST)  # type: ignore[attr-defined]
        text = await asks()
        assert f"Measure the fidelity of the methods of {FIRST}" in " ".join(text.replace("│", " ").split())
        await pilot.press("y")
        await until(pilot, lambda _: asked, "the extension")
    assert asked == [(FIRST, Extension(fidelity=True))]

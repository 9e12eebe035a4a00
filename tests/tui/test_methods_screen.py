"""The Methods screen: the catalogue, environments, and the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.conftest import workbench
from tests.tui.screen_text import until
from tui.screens.ask import AskText, Confirm
from tui.screens.methods import MethodsScreen


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_the_catalogue_says_what_each_method_needs_and_differs_in(bare: Path, size: tuple[int, int]) -> None:
    async with workbench(bare).run_test(size=size, notifications=True) as pilot:
        await pilot.press("4")
        text = await until(pilot, lambda text: "flash-attention-2" in text and "must show" in text, "the catalogue")
        assert "unavailable" in text
        assert "kasoku env create torch" in text
        await pilot.press("down", "down")
        await until(pilot, lambda text: "difference" in text, "what it differs in")


async def test_environments_are_listed_and_a_wrong_python_is_a_sentence(bare: Path) -> None:
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("4", "right")
        await until(pilot, lambda text: "article-2024" in text and "absent" in text, "the environments")
        await pilot.press("u")
        await until(pilot, lambda _: isinstance(pilot.app.screen, AskText), "the question")
        await pilot.press(*"/no/such/python", "enter")
        await until(pilot, lambda text: "/no/such/python is not a file" in text, "the sentence")


async def test_removing_what_is_not_there_is_a_sentence(bare: Path) -> None:
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("4", "right")
        await until(pilot, lambda text: "article-2024" in text, "the environments")
        await pilot.press("x")
        await until(pilot, lambda _: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("y")
        await until(pilot, lambda text: "There is no environment torch to remove" in text, "the sentence")


async def test_creating_an_environment_shows_what_is_said_and_how_it_failed(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = bare / "config" / "environments"
    config.mkdir(parents=True)
    (config / "mine.toml").write_text(
        '[mine]\npurpose = "A test"\npython = "3.11"\nrequirements = ["no-such-package-of-kasoku==9"]\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("UV_OFFLINE", "1")
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("4", "right")
        await until(pilot, lambda text: "article-2024" in text, "the environments")
        await pilot.press("end")
        await until(pilot, lambda text: "mine" in text, "the last environment")
        screen = pilot.app.screen
        assert isinstance(screen, MethodsScreen)
        await pilot.press("c")
        await until(pilot, lambda _: screen.creating is None and len(screen._output) > 1, "the end of it", 60)
        assert "ready" not in screen._output[-1]
        assert not [path for path in (bare / "environments").iterdir() if path.is_dir() and path.name[0] != "."]


async def test_the_doctors_findings_are_shown(bare: Path) -> None:
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("4", "right", "right")
        await until(pilot, lambda text: "Kasoku keeps its files in" in text, "the findings")


async def test_a_broken_method_file_is_reported_and_ignored(bare: Path) -> None:
    methods = bare / "config" / "methods"
    methods.mkdir(parents=True)
    (methods / "bad.toml").write_text("[methods.x", encoding="utf-8")
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("4")
        await until(pilot, lambda text: "bad.toml" in text and "TOML" in text, "the sentence")

"""The Methods screen: the catalogue, environments, and the doctor."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from tests.tui.conftest import workbench
from tests.tui.screen_text import until
from tui.app import Workbench
from tui.screens.ask import AskText, Confirm
from tui.screens.methods import MethodsScreen


async def test_the_catalogue_says_what_each_method_needs_and_differs_in(bare: Path) -> None:
    async with workbench(bare).run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("4")
        await until(pilot, says_what_it_needs, "the catalogue")
        await pilot.press("down", "down")
        await until(pilot, lambda text: "difference" in text, "what it differs in")


def says_what_it_needs(text: str) -> bool:
    return all(words in text for words in ("unavailable", "flash-attention-2", "must show", "kasoku env create torch"))


async def test_a_method_has_a_page_and_is_made_ones_own_in_the_editor_until_the_catalogue_takes_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor"
    script.write_text(
        '#!/bin/sh\ngrep -q sumary "$1" && exec sed -i s/sumary/summary/ "$1"\nsed -i s/summary/sumary/ "$1"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    app = Workbench(saved, tmp_path / "config")
    async with app.run_test(size=(200, 60), notifications=True) as pilot:
        await pilot.press("4")
        await until(pilot, says_what_it_needs, "the catalogue")
        await pilot.press("enter")
        await until(pilot, lambda text: "[methods.baseline]" in text, "the recipe")
        text = await until(pilot, lambda text: len(re.findall(r"3\d\d\.\d .* yes", text)) == 2, "both sessions")
        assert "attn_implementation" in text
        await pilot.press("y")
        assert app.clipboard.startswith("[methods.baseline]")
        await pilot.press("w")
        await until(pilot, lambda _: isinstance(app.screen, AskText), "the question")
        await pilot.press("enter")
        file = tmp_path / "config" / "methods" / "baseline-mine.toml"
        await until(pilot, lambda _: f"edit {file} yourself" in told(app), "why no editor is opened")
        await until(pilot, lambda _: "baseline-mine is a method now" in told(app), "what came of it")
        monkeypatch.setattr(app, "suspend", contextlib.nullcontext)  # a test has no terminal to lend
        await pilot.press("w")
        await until(pilot, lambda _: isinstance(app.screen, AskText), "the question")
        await pilot.press("end", "2", "enter")
        await until(pilot, lambda _: isinstance(app.screen, Confirm), "what the catalogue says")
        assert isinstance(app.screen, Confirm)
        assert "'sumary' is not known; did you mean 'summary'" in app.screen.question
        await pilot.press("y")
        await until(pilot, lambda _: "baseline-mine2 is a method now" in told(app), "what came of it")
        await pilot.press("escape")
        await until(pilot, lambda text: "baseline-mine2" in text, "the catalogue with it")


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
        await pilot.press("4")
        await until(pilot, lambda _: isinstance(pilot.app.screen, MethodsScreen), "the screen")
        screen = pilot.app.screen
        assert isinstance(screen, MethodsScreen)
        for _ in range(2):  # typed ahead, before the first tab has the focus
            screen.action_tab(1)
        await until(pilot, lambda text: "Kasoku keeps its files in" in text, "the findings")


async def test_a_broken_method_file_is_reported_and_ignored(bare: Path) -> None:
    methods = bare / "config" / "methods"
    methods.mkdir(parents=True)
    (methods / "bad.toml").write_text("[methods.x", encoding="utf-8")
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("4")
        await until(pilot, lambda text: "bad.toml" in text and "TOML" in text, "the sentence")


def told(app: Workbench) -> str:
    """The notifications, which wrap on the screen."""
    return "\n".join(note.message for note in app._notifications)

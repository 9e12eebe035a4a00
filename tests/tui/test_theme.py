"""The colours of methods on either background, told apart with every kind of sight, and without colours."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from rich.color import ColorSystem
from rich.style import Style
from textual.color import Color
from textual.theme import Theme

from tests.tui.conftest import workbench
from tests.tui.screen_text import in_mid_run, until
from tui.settings import Settings
from tui.widgets.methods_table import MethodsTable
from tui.widgets.theme import (
    DARK,
    DARK_FEW,
    LIGHT,
    LIGHT_FEW,
    ON_DARK,
    ON_DARK_FEW,
    ON_LIGHT,
    ON_LIGHT_FEW,
    drawn_in,
    has_few_colours,
    method_style,
    sign_of,
)

LEAST_DISTANCE, LEAST_CONTRAST = 12.0, 3.0  # in CIE Lab, and as WCAG 2 asks for what is not text
SIGHT: Final = {  # Machado, Oliveira & Fernandes 2009, severity 1: linear RGB as it is seen
    "normal": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
XYZ: Final = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    rgb = np.array(Color.parse(colour).normalized)
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(np.clip(XYZ @ rgb, 1e-6, None) / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("colours", [ON_DARK, ON_LIGHT])
def test_the_colours_of_methods_are_told_apart(colours: tuple[str, ...], sight: str) -> None:
    seen = [lab(np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)) for colour in colours]
    for (one, first), (two, second) in combinations(zip(colours, seen, strict=True), 2):
        assert np.linalg.norm(first - second) >= LEAST_DISTANCE, (one, two)


@pytest.mark.parametrize(("theme", "colours"), [(DARK, ON_DARK), (LIGHT, ON_LIGHT)])
def test_every_colour_that_means_something_is_seen_on_its_background(theme: Theme, colours: tuple[str, ...]) -> None:
    assert theme.background is not None
    behind = XYZ[1] @ linear(theme.background) + 0.05
    for colour in (*colours, theme.accent, theme.success, theme.warning, theme.error):
        assert colour is not None
        light = XYZ[1] @ linear(colour) + 0.05
        assert max(light, behind) / min(light, behind) >= LEAST_CONTRAST, colour


@pytest.mark.parametrize(("theme", "colours"), [(DARK_FEW, ON_DARK_FEW), (LIGHT_FEW, ON_LIGHT_FEW)])
def test_sixteen_colours_tell_good_from_bad_and_methods_apart(theme: Theme, colours: tuple[str, ...]) -> None:
    def of_the_terminal(colour: str) -> int | None:
        return Color.parse(colour).rich_color.downgrade(ColorSystem.STANDARD).number

    meant = [of_the_terminal(theme.variables[f"text-{name}"]) for name in ("success", "warning", "error", "accent")]
    assert [(number or 0) % 8 for number in meant] == [2, 3, 1, 6]  # green, yellow, red, cyan
    assert len({of_the_terminal(colour) for colour in colours}) == len(colours)
    assert theme.background is not None
    assert of_the_terminal(theme.background) not in {*meant, *(of_the_terminal(colour) for colour in colours)}


def test_a_terminal_with_few_colours_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLORTERM", raising=False)
    for name, few in (("xterm-16color", True), ("xterm", True), ("xterm-256color", False)):
        monkeypatch.setenv("TERM", name)
        assert has_few_colours() is few


def test_130_methods_differ_in_colour_or_sign() -> None:
    looks = {(drawn_in(method_style(place), Style(), DARK), sign_of(method_style(place))) for place in range(130)}
    assert len(looks) == 130
    assert sign_of("accent") == sign_of(method_style(0))


def test_without_colours_thirteen_methods_differ_by_their_signs_and_none_is_greyer_than_another() -> None:
    base = Style.parse("#d5dbe3 on #101418")
    assert {drawn_in(method_style(place), base, DARK, colourless=True) for place in range(13)} == {base}
    assert drawn_in(method_style(3, faint=True), base, DARK, colourless=True) == base + Style(dim=True)
    assert len({sign_of(method_style(place)) for place in range(13)}) == 13


async def test_no_color_draws_methods_as_text(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with workbench(running).run_test(size=(120, 36), notifications=True) as pilot:
        await until(pilot, in_mid_run, "the race")
        table = pilot.app.screen.query_one(MethodsTable)
        assert {table._style(method_style(place)) for place in range(4)} == {table._style("")}


@pytest.mark.parametrize("theme", [DARK_FEW, LIGHT_FEW])
async def test_sixteen_colours_show_which_command_the_palette_would_take(bare: Path, theme: Theme) -> None:
    app = workbench(bare, few_colours=True, settings=Settings(theme=theme.name))
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda text: "Methods and sessions side by side" in text, "the commands")

        def behind(words: str) -> set[int | None]:
            strips = [strip for strip in app.screen._compositor.render_strips() if words in strip.text]
            styles = [segment.style for segment in strips[0] if words in segment.text and segment.style is not None]
            return {
                style.bgcolor.downgrade(ColorSystem.STANDARD).number for style in styles if style.bgcolor is not None
            }

        assert behind("Methods and sessions side by side") == {4}
        assert behind("Show help for the focused") != {4}

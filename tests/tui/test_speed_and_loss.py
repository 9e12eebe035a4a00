"""The picture of speed against loss, on the Compare screen and in the report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from textual.app import App, ComposeResult

from sessions.disk.store import Store
from sessions.export.report import make_report
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.speed_and_loss import trade_offs
from tests.tui.conftest import workbench
from tests.tui.screen_text import settled, until
from tests.verdicts.made_store import make_session
from tests.verdicts.made_windows import add_fidelity
from tui.print.report_page import page
from tui.screens.compare import CompareScreen
from tui.widgets.speed_and_loss import SpeedAndLoss
from tui.widgets.theme import SIGNS

MARK = SIGNS[0]

BASE = ComparisonRow("s", "base", tok_s_mean=100.0, dnll_decode=0.0, dnll_low_decode=0.0, dnll_high_decode=0.0)
FAST = ComparisonRow(
    "s",
    "fast",
    reference="base",
    tok_s_mean=300.0,
    ratio=3.0,
    ratio_low=2.5,
    ratio_high=3.5,
    dnll_decode=0.05,
    dnll_low_decode=0.04,
    dnll_high_decode=0.06,
    fidelity_floor_decode=0.004,
)
UNSCORED = replace(FAST, method="unscored", dnll_decode=None)


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield SpeedAndLoss()


async def drawn(rows: list[ComparisonRow], width: int = 80) -> str:
    found = trade_offs(rows)
    async with Shown().run_test(size=(width, 24)) as pilot:
        names = [one.row.method for one in found.drawn] if found else []
        pilot.app.query_one(SpeedAndLoss).show_trade_offs(found, names, ["accent", "good"][: len(names)])
        return await settled(pilot)


def place(text: str, number: int) -> tuple[int, int]:
    """Row and column of the mark with that number, from the top, below the legend."""
    marks = [
        (row, column)
        for row, line in enumerate(text.splitlines())
        if "│" in line
        for column, sign in enumerate(line)
        if sign == MARK
    ]
    return marks[number]


@pytest.mark.parametrize("width", [80, 132])
async def test_faster_is_higher_and_a_loss_is_to_the_right_of_the_band(width: int) -> None:
    text = await drawn([BASE, FAST], width)
    (high, right), (low, left) = place(text, 0), place(text, 1)
    assert high < low
    assert right > left
    line = text.splitlines()[high]
    assert line.index("░") < line.rindex("░") < right
    assert text.splitlines()[low][left - 1] == "░"  # the reference is within the floor
    assert "speed (×) against loss in decoding (nats a token)  ● base  ● fast" in text
    assert "░ the floor of 0.0040: losses within it are not told apart" in text
    assert max(map(len, text.splitlines())) <= width


async def test_a_mark_has_its_methods_colour_where_another_ones_interval_passes() -> None:
    beside = replace(FAST, dnll_decode=0.0, dnll_low_decode=-0.01, dnll_high_decode=0.01, ratio_low=0.9)
    found = trade_offs([BASE, beside])
    assert found is not None
    async with Shown().run_test(size=(80, 24)) as pilot:
        picture = pilot.app.query_one(SpeedAndLoss)
        picture.show_trade_offs(found, ["base", "beside"], ["accent", "good"])
        marks = [style for line in picture.draw(80)[1:] for piece, style in line if MARK in piece]
    assert marks == ["good", "accent"]


async def test_without_a_floor_there_is_no_band_and_the_axis_has_its_labels() -> None:
    text = await drawn([BASE, replace(FAST, fidelity_floor_decode=None)])
    assert "░" not in text
    axis = next(line for line in text.splitlines() if " 0 " in line and "│" not in line)
    assert "0.01" in axis.split()


async def test_methods_without_a_loss_are_named_and_nothing_is_drawn_without_any() -> None:
    assert "Not drawn, without a speed or a loss in decoding: unscored." in await drawn([BASE, FAST, UNSCORED])
    assert "against loss" not in await drawn([replace(BASE, dnll_decode=None), UNSCORED])


def test_prefill_is_drawn_where_nothing_was_scored_in_decoding() -> None:
    found = trade_offs([replace(BASE, dnll_decode=None, dnll=0.0), replace(UNSCORED, dnll=0.02, fidelity_floor=0.003)])
    assert found is not None
    assert (found.path, found.floor) == ("prefill", 0.003)
    assert [one.loss.estimate for one in found.drawn] == [0.0, 0.02]
    assert [one.speed.estimate for one in found.drawn] == [1.0, 3.0]


async def test_an_interval_that_is_wider_than_its_column_is_told_whole(tmp_path: Path) -> None:
    methods = ["base", "one", "two", "three"]
    made = make_session(tmp_path / "sessions", {name: [100.0] * 3 for name in methods})
    loss = [-0.00521, 0.00361] * 8
    add_fidelity(made, {name: {"prefill": loss, "decode": loss} for name in methods})
    async with workbench(tmp_path).run_test(size=(120, 60)) as pilot:
        await pilot.app.compare_sessions([made.id])  # type: ignore[attr-defined]
        await pilot.press("v")
        text = await until(pilot, lambda text: "ΔNLL decoding" in text, "the losses")
    rows = text[text.index("ΔNLL  ") : text.index("perplexity ×")]
    assert rows.count("−0.0008 (−0.00") == rows.count("0.0016)") == 8


async def test_the_screen_and_the_report_draw_a_scored_session(tmp_path: Path) -> None:
    made = make_session(tmp_path / "sessions", {"base": [100.0] * 3, "fast": [300.0, 301.0, 299.0]})
    plain = make_session(tmp_path / "sessions", {"base": [100.0] * 3, "fast": [300.0] * 3})
    loss = [0.05, 0.06] * 8
    add_fidelity(
        made, {"base": {"prefill": [0.0] * 16, "decode": [0.0] * 16}, "fast": {"prefill": loss, "decode": loss}}
    )
    async with workbench(tmp_path).run_test(size=(132, 60)) as pilot:
        await pilot.app.compare_sessions([made.id])  # type: ignore[attr-defined]
        await until(pilot, lambda text: "speed (×) against loss in decoding" in text, "the picture")
        await pilot.press("v")
        await until(pilot, lambda text: "ΔNLL decoding  0.0000 (0.0000–0.0000)" in text, "the figures")
        await pilot.press("v")
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        screen.pick([plain.id])
        await until(pilot, lambda text: "against loss" not in text and "tokens/s of each" in text, "the other session")
    store = Store(tmp_path / "sessions")
    assert "Speed against loss" in page(make_report(store, [made.id]), "html")
    assert "ΔNLL in decoding, nats a token" in page(make_report(store, [made.id]), "html")
    assert "Speed against loss" not in page(make_report(store, [plain.id]), "html")


async def test_an_interval_of_a_noisy_machine_leaves_the_others_their_room() -> None:
    text = await drawn([BASE, replace(FAST, ratio_low=0.2, ratio_high=201.13)])
    labels = [float(label) for label in re.findall(r"^ *([−\-0-9.]+)×", text, re.MULTILINE)]
    assert len(labels) >= 4
    assert all(0 <= label <= 4 for label in labels)
    assert place(text, 0)[0] < place(text, 1)[0] - 4

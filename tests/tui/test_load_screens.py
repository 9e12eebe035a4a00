"""A session under load: on Run while it is measured, on Compare and in the report when it has ended."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sessions.disk.store import Store
from sessions.export.report import make_report
from sessions.verdict.comparison import compare
from sessions.verdict.load_curves import PICTURES, load_curves
from sessions.verdict.load_row import LoadRow
from tests.tui.conftest import FIRST, workbench
from tests.tui.journals import make_tokeniser, write_session
from tests.tui.load_journals import LoadScript, load_plan
from tests.tui.screen_text import settled, until
from tui.print.report_page import page
from tui.screens.compare import CompareScreen
from tui.screens.run import RunScreen
from tui.widgets.flight_grid import FlightGrid
from tui.widgets.load_plots import LoadPlot
from tui.widgets.load_table import LoadTable
from tui.widgets.theme import SIGNS, is_method, method_style
from tui.words.load_lines import load_sentences

NARROW, WIDE = (80, 24), (150, 44)
OOM = [("vllm", "c8")]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("ended")
    write_session(home, load_plan(), session=FIRST, written=LoadScript, oom=OOM)
    return home


@pytest.fixture
def measured(bare: Path) -> Iterator[Path]:
    """A home with one session in the middle of its last point, its lock held as a conductor holds it."""
    model = bare / "models" / "small"
    ids = make_tokeniser(model)
    folder = write_session(
        bare, load_plan(), session=FIRST, ended=False, written=LoadScript, oom=OOM, model_folder=str(model), ids=ids
    )
    lock = folder.try_lock()
    assert lock is not None
    yield bare
    os.close(lock)


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_points_fill_in_and_the_requests_in_flight_are_a_grid(measured: Path, size: tuple[int, int]) -> None:
    async with workbench(measured).run_test(size=size) as pilot:
        await until(pilot, lambda text: "generating ·" in text, "the grid")
        text = await settled(pilot)
        assert re.search(r"tok/s +baseline +vllm", text)
        assert re.search(r"c2 +\d+\.\d ±\d", text)
        assert re.search(r"c8 .*✗ oom", text)
        running = [line for line in text.splitlines() if "▶" in line]
        assert len(running) == 1
        assert re.search(r"\d in flight · \d generating · \d waiting · [\d.]+ tok/s", text)
        assert max(map(len, text.splitlines())) <= size[0]


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_the_throughput_of_all_in_flight_is_a_curve_over_time(measured: Path, size: tuple[int, int]) -> None:
    async with workbench(measured).run_test(size=size) as pilot:
        await until(pilot, lambda text: "generating ·" in text and "tok/s 0" in text, "the plot")
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        assert screen.live is not None
        plot = screen.live.laps

        def drawn_last() -> bool:
            return plot.live is not None and (plot.live.method, plot.live.point) == ("vllm", "c4")

        await until(pilot, lambda _: drawn_last(), "the plot of the last point")
        text, live = await settled(pilot), plot.live
        assert live is not None
        for row in live.methods:
            blocks = [span for span in live.blocks if span.method == row.name]
            assert row.laps
            assert all(
                any(b.start_s < lap.end_s and lap.start_s < (b.end_s or lap.end_s) for b in blocks) for lap in row.laps
            )
            best = max(cell.tok_s_total or 0 for cell in live.points if cell.method == row.name)
            assert best * 0.7 < max(lap.tok_s for lap in row.laps) < best * 2  # also the point that runs, or fell over
        lines = plot.draw(plot.content_size.width)
        curves = [(piece, style) for line in lines for piece, style in line if is_method(style)]
        drawn = {style for piece, style in curves if any("\u2800" < letter <= "\u28ff" for letter in piece)}
        assert drawn == {method_style(n, faint=row.name not in live.at_work) for n, row in enumerate(live.methods)}
        assert float(lines[0][0][0]) >= max(lap.tok_s for row in live.methods for lap in row.laps)
        assert len(re.findall("^.*[\u2801-\u28ff].*$", text, re.MULTILINE)) >= 3
        assert not re.search("[▁-█]{8}", "".join(line for line in text.splitlines() if "tok/s" in line))


async def test_the_text_is_that_of_the_slot_that_is_looked_into(measured: Path) -> None:
    async with workbench(measured).run_test(size=WIDE) as pilot:
        await until(pilot, lambda text: "generating ·" in text, "the grid")
        await settled(pilot)  # of earlier points it has had fewer slots
        grid = pilot.app.screen.query_one(FlightGrid)
        grid.focus()
        await until(pilot, lambda _: grid.has_focus, "the grid's focus, without which it hears no key")
        await pilot.press("right", "right")
        assert grid.slot == 1
        text = await until(pilot, lambda text: "▸" in text, "the chosen slot")
        (number,) = re.findall(r"▸ +(\d+) ", text)
        await until(pilot, lambda text: re.search(rf"· request {number}\b", text), "its request in the title")
        await pilot.press("left")
        assert grid.slot == 0
        await pilot.press("backspace")
        assert grid.slot is None


@pytest.mark.parametrize("size", [NARROW, WIDE])
async def test_compare_has_the_points_and_their_pictures(ended: Path, size: tuple[int, int]) -> None:
    async with workbench(ended).run_test(size=size) as pilot:
        await pilot.press("3")
        text = await until(pilot, lambda text: "c1: 1 in flight" in text and "tok/s/user" in text, "the points")
        assert re.search(r"vllm +\d+\.?\d* +[\d.]+ +\d\.\d\d", text)
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        plots = list(screen.query(LoadPlot))
        assert [plot.picture for plot in plots] == list(PICTURES)
        drawn = ["".join(piece for piece, _ in line) for line in plots[0].draw(70)]
        marks = sum(line.count(sign) for line in drawn for sign in SIGNS[:2])
        assert marks >= 2 + 4  # the legend, and points that do not hide one another
        assert drawn[-3].split() == ["1", "2", "4", "8"]
        assert drawn[-4].split("│")[0].strip() == "0"
        assert all(len(line) <= 70 for line in drawn)
        assert not screen.query_one("#plots").display
        assert screen.query_one(LoadTable).display


async def test_a_plain_session_has_no_pictures_of_a_load(saved: Path) -> None:
    async with workbench(saved).run_test(size=WIDE) as pilot:
        await pilot.press("3")
        await until(pilot, lambda text: "tok/s ±95 %" in text, "the comparison")
        assert not pilot.app.screen.query_one("#load-plots").display
        assert not pilot.app.screen.query_one(LoadTable).display
        assert pilot.app.screen.query_one("#plots").display


def test_a_curve_has_the_loads_of_its_method_alone(ended: Path) -> None:
    rows = compare(Store(ended / "sessions"), [(FIRST, None)]).rows
    (found,) = load_curves(rows)
    assert found.axis == "concurrency"
    assert list(found.loads) == [1, 2, 4, 8]
    assert {curve.method: [point.load for point in curve.points] for curve in found.curves} == {
        "baseline": [1, 2, 4, 8],
        "vllm": [1, 2, 4],
    }
    assert load_curves([row for row in rows if getattr(row, "point", "") == "c1"]) == ()


def test_a_sentence_that_holds_at_several_points_is_said_once(ended: Path) -> None:
    rows = [row for row in compare(Store(ended / "sessions"), [(FIRST, None)]).rows if isinstance(row, LoadRow)]
    alike = [
        replace(row, verdict="no block to compare with another", flags=(), problem="", status="ok") for row in rows
    ]
    methods = list(dict.fromkeys(row.method for row in rows))
    points = {method: ", ".join(row.point for row in rows if row.method == method) for method in methods}
    assert max(points.values(), key=len).count(",") > 0
    said = [text for text, _ in load_sentences(alike) if "no block" in text]
    assert len(said) == len(methods)
    assert all(
        text.startswith(f"{points[method]}, {method}: no block") for text, method in zip(said, methods, strict=True)
    )


@pytest.mark.parametrize("form", ["html", "md"])
def test_the_report_has_the_rows_and_the_pictures(ended: Path, form: str) -> None:
    report = make_report(Store(ended / "sessions"), [FIRST])
    titles = [plot.title for plot in report.plots]
    assert [title[:5] for title in titles] == ["Throu", "Throu", "TTFT,", "ITL, "]
    assert all(plot.svg.startswith("<svg") and "vllm" in plot.svg for plot in report.plots)
    text = page(report, form)
    assert "c8, vllm" in text
    assert "exploratory" in text
    assert "CUDA out of memory" in text

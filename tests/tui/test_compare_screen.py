"""The Compare screen: picks, figures, marks, plots, baseline and CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import pytest

from tests.tui.conftest import FIRST, SECOND, workbench
from tests.tui.journals import make_plan, write_session
from tests.tui.screen_text import assert_as_kept, settled, until
from tui import figures
from tui.screens.compare import CompareScreen


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_a_sessions_methods_stand_side_by_side_or_stacked(saved: Path, size: tuple[int, int]) -> None:
    async with workbench(saved).run_test(size=size, notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "4 rows of 1 session" in text and "tok/s ±95 %" in text, "the figures")
        heads = next(line for line in text.splitlines() if "● baseline" in line)
        assert heads.count("●") == (2 if size[0] == 80 else 4)
        assert_as_kept(f"compare-{size[0]}x{size[1]}", await settled(pilot))


async def test_the_csv_says_what_the_screen_says(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with workbench(saved).run_test(size=(200, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "4 rows of 1 session" in text and "tok/s ±95 %" in text, "the figures")
        await pilot.press("e")
        await until(pilot, lambda text: "Wrote" in text and ".csv" in text, "where it went")
    (file,) = tmp_path.glob("kasoku-compare-*.csv")
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    line = {row.split("  ")[0].strip(): row for row in text.splitlines() if row.strip()}
    assert len(rows) == 4
    for row in rows:
        assert figures.rate(float(row["tok_s_mean"])) in line["tok/s ±95 %"]
        if row["ratio"]:
            assert f"{float(row['ratio']):.2f}" in line["× reference"]
        assert figures.duration(float(row["ttft_s_median"])) in line["TTFT median"]
        assert figures.duration(float(row["itl_s_p99"])) in line["ITL p99"]
        assert figures.size(float(row["peak_vram_bytes"])) in line["VRAM peak"]
        assert row["verdict"][:30] in line["verdict"]


async def test_the_baseline_can_be_changed(saved: Path) -> None:
    async with workbench(saved).run_test(size=(200, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        await until(pilot, lambda text: "of baseline" in text, "the methods' own reference")
        await pilot.press("b", "b")
        text = await until(pilot, lambda text: "baseline torch-compile-wrapper" in text.splitlines()[0], "the baseline")
        await until(pilot, lambda text: "of torch-compile-w" in text, "the other ratios")
        assert "compare" in text


async def test_picks_are_ticked_in_the_list(saved: Path) -> None:
    async with workbench(saved).run_test(size=(160, 48), notifications=True) as pilot:
        screen = await compare(pilot, [FIRST])
        await until(pilot, lambda text: "4 rows of 1 session" in text, "four rows")
        await pilot.press("p")
        await until(pilot, lambda text: "[✓] baseline" in text, "the list of picks")
        assert screen.picks.has_focus
        await pilot.press("space")
        await until(pilot, lambda text: "3 rows of 1 session" in text, "three rows")
        screen.picks.move_to_key(f"{SECOND}:baseline")
        await pilot.press("space")
        await until(pilot, lambda text: "4 rows of 2 sessions" in text and SECOND in text, "a row of the other session")


async def test_sessions_that_differ_are_refused_until_asked_for_and_marked(tmp_path: Path) -> None:
    write_session(tmp_path, session=FIRST)
    write_session(tmp_path, msgspec.structs.replace(make_plan(), dtype="float16"), session=SECOND)
    async with workbench(tmp_path).run_test(size=(160, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST, SECOND])
        text = await until(pilot, lambda text: "Press a" in text, "the refusal")
        assert "differ in dtype" in text
        await pilot.press("a")
        screen = pilot.app.screen
        assert isinstance(screen, CompareScreen)
        await until(pilot, lambda _: screen.comparison is not None, "the comparison")
        assert [name for name, _ in screen.comparison.differences] == ["dtype"]  # type: ignore[union-attr]


async def test_a_session_without_frames_is_a_row_that_says_so(tmp_path: Path) -> None:
    folder = write_session(tmp_path, session=FIRST)
    (folder.path / "requests.parquet").write_bytes(b"PAR1 rubbish")
    async with workbench(tmp_path).run_test(size=(160, 48), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "4 rows" in text, "the rows")
        assert "Traceback" not in text


async def test_without_sessions_it_says_what_to_do(bare: Path) -> None:
    async with workbench(bare).run_test(notifications=True) as pilot:
        await pilot.press("3")
        await until(pilot, lambda text: "Nothing is picked" in text, "the sentence")


async def compare(pilot: object, sessions: list[str]) -> CompareScreen:
    """Bring the screen to the front with these sessions picked."""
    app = pilot.app  # type: ignore[attr-defined]
    await app.compare_sessions(sessions)
    screen = app.screen
    assert isinstance(screen, CompareScreen)
    return screen

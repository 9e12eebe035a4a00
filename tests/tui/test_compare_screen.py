"""The Compare screen: picks, figures, marks, plots, baseline and CSV."""

from __future__ import annotations

import csv
import dataclasses
import re
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from methods.text.tokeniser import Tokeniser
from sessions.device.device_key import device_key
from sessions.verdict.noise_floor import NoiseFloor, keep
from tests.tui.conftest import FIRST, SECOND, workbench
from tests.tui.journals import make_plan, make_tokeniser, write_session
from tests.tui.screen_text import as_kept, screen_text, until
from tui.app import Workbench
from tui.command_line import main
from tui.screens.compare import CompareScreen
from tui.settings import load_settings
from tui.widgets.greedy_splits import GreedySplits
from tui.widgets.theme import SIGNS
from tui.words import figures


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_a_sessions_methods_stand_side_by_side_or_stacked(saved: Path, size: tuple[int, int]) -> None:
    async with workbench(saved).run_test(size=size, notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "4 rows of 1 session" in text and "tok/s ±95 %" in text, "the figures")
        heads = next(line for line in text.splitlines() if "● baseline" in line)
        assert sum(map(heads.count, SIGNS)) == (2 if size[0] == 80 else 4)
        await as_kept(f"compare-{size[0]}x{size[1]}", pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_the_answer_comes_first(saved: Path, size: tuple[int, int]) -> None:
    async with workbench(saved).run_test(size=size, notifications=True) as pilot:
        screen = await compare(pilot, [FIRST], keys="")
        text = await until(pilot, lambda text: "torch-compile is the fastest" in text, "the answer")
        await as_kept(f"answer-{size[0]}x{size[1]}", pilot)
        assert screen.comparison is not None
        flat = " ".join(text.replace("│", " ").split())
        best = next(row for row in screen.comparison.rows if row.method == "torch-compile")
        assert f"torch-compile is the fastest: {figures.ratio(best.ratio)}× baseline" in flat
        assert f"), {figures.rate(best.tok_s_mean)} tokens/s." in flat
        assert "How sure: 3 blocks of fresh processes a method" in flat
        assert "torch-compile-wrapper was NOT in effect" in flat
        for row in screen.comparison.rows:
            mean = figures.rate(row.tok_s_mean)
            assert any(line.lstrip("│ ").startswith(row.method[:15]) and mean in line for line in text.splitlines())


async def test_the_csv_says_what_the_screen_says(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with workbench(saved).run_test(size=(200, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "4 rows of 1 session" in text and "tok/s ±95 %" in text, "the figures")
        await pilot.press("e")
        await until(pilot, lambda text: "Wrote" in text and ".csv" in text, "where it went")
    (file,) = tmp_path.glob("kasoku-compare-*.csv")
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    line = {row.split("  ")[0].strip("│ "): row for row in text.splitlines() if row.strip()}
    assert len(rows) == 4
    for row in rows:
        assert figures.rate(float(row["tok_s_mean"])) in line["tok/s ±95 %"]
        if row["ratio"]:
            assert f"{float(row['ratio']):.2f}" in line["× ref (95 %)"]
        assert figures.duration(float(row["ttft_s_median"])) in line["TTFT"]
        assert figures.duration(float(row["itl_s_p99"])) in line["ITL p99"]
        assert figures.size(float(row["peak_vram_bytes"])) in line["VRAM peak"]
        assert row["verdict"][:29] in line["verdict"]


async def test_the_baseline_can_be_changed(saved: Path) -> None:
    async with workbench(saved).run_test(size=(200, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        await until(pilot, lambda text: re.search(r"reference +– +baseline", text), "the methods' own reference")
        await pilot.press("b", "b")
        text = await until(pilot, lambda text: "baseline torch-compile-wrapper" in text.splitlines()[0], "the baseline")
        await until(pilot, lambda text: re.search(r"reference +torch-compile-wrapper +–", text), "the other ratios")
        assert "compare" in text


async def test_what_has_just_ended_is_what_is_compared(saved: Path) -> None:
    app = workbench(saved)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.press("3")
        await until(pilot, lambda text: "4 rows of 1 session" in text, "the newest session")
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        assert screen.comparison is not None
        assert screen.comparison.rows[0].session != FIRST
        await app.watch_session(app.store.folder(FIRST))
        await until(pilot, lambda text: "finished" in text.splitlines()[0], "its end")
        for expected in (FIRST, SECOND):  # the second time it is as it was left
            await pilot.press("3")
            await until(pilot, partial(is_of, screen, expected), f"the comparison of {expected}")
            if expected == FIRST:
                screen.pick([SECOND])
                await until(pilot, partial(is_of, screen, SECOND), "another pick")
                await pilot.press("1")


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


@pytest.fixture(scope="module")
def differing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two sessions that do not compare."""
    folder = tmp_path_factory.mktemp("differing")
    write_session(folder, session=FIRST)
    write_session(folder, dataclasses.replace(make_plan(), dtype="float16"), session=SECOND)
    return folder


async def test_sessions_that_differ_are_refused_with_what_differs_until_asked_for(differing: Path) -> None:
    async with workbench(differing).run_test(size=(160, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST, SECOND])
        different = f"≠ differs in dtype: {FIRST}: bfloat16, {SECOND}: float16"
        text = await until(pilot, lambda text: different in text and re.search(r"a +anyway", text), "the refusal")
        assert "differ in dtype, so their numbers are not comparable. Press a to compare anyway" in text
        assert "tok/s ±95 %" not in text
        await pilot.press("e")
        await until(pilot, lambda text: text.count("These sessions differ") == 2, "that there is nothing to export")
        await pilot.press("a")
        text = await until(pilot, lambda text: "8 rows of 2 sessions" in text, "the comparison all the same")
        assert "NOT COMPARABLE, compared anyway" in text.splitlines()[0]
        assert "NOT COMPARABLE: these sessions differ in dtype." in text
        await pilot.press("a")
        await until(pilot, lambda text: "Press a" in text, "the refusal again")


async def test_nothing_is_asked_for_where_nothing_is_refused(saved: Path) -> None:
    async with workbench(saved).run_test(size=(160, 48), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "4 rows of 1 session" in text, "the rows")
        assert "anyway" not in text


@pytest.mark.parametrize("size", [(80, 24), (160, 60)])
async def test_greedy_texts_stand_side_by_side_at_their_split(tmp_path: Path, size: tuple[int, int]) -> None:
    model = tmp_path / "models" / "small"
    make_tokeniser(model)
    tokeniser = Tokeniser(model)
    same, one, other = (tokeniser.encode(text) for text in ("The river runs past ", "the old mill", "in no hurry; it"))
    greedy = {
        "baseline": {"ids": same + one, "margins": [1.0] * len(same) + [0.125] * len(one)},
        "torch-compile-wrapper": {"ids": same + one},
        "torch-compile": {"ids": same + other},
    }
    write_session(tmp_path, session=FIRST, model_folder=str(model), greedy=greedy)
    async with workbench(tmp_path).run_test(size=size, notifications=True) as pilot:
        screen = await compare(pilot, [FIRST])
        await until(pilot, lambda _: screen.comparison is not None, "the comparison")
        screen.query_one("#splits").scroll_visible(animate=False, force=True)
        text = await until(pilot, lambda text: "in no hurry; it" in text, "the split")
        assert "… The river runs past" in text
        assert re.search(r"baseline, the reference: +│ torch-compile:", text)
        assert re.search(r"▸the old mill +│ ▸in no hurry; it", text)
        pieces = [piece for line in screen.query_one("#splits", GreedySplits).draw(100) for piece in line]
        assert [text for text, style in pieces if style == "warning"] == ["▸the", "▸in"]
        flat = " ".join(text.replace("│", " ").split())
        assert f"the greedy text diverges from the reference's at token {len(same)}" in flat
        assert "0.125 apart, a near tie in bfloat16" in flat
        screen.query_one("#table").scroll_visible(top=True, animate=False, force=True)
        if size[1] > 24:
            text = await until(pilot, lambda text: "1st diff." in text, "the table")
            (line,) = [line for line in text.splitlines() if line.strip("│ ").startswith("1st diff.")]
            assert re.search(rf"– +none +– +{len(same)}\b", line)
            (line,) = [line for line in text.splitlines() if line.strip("│ ").startswith("equal tokens")]
            assert re.search(r"– +100 % +– +\d\d? %", line)


async def test_where_texts_are_gone_the_place_of_the_split_is_said(tmp_path: Path) -> None:
    greedy = {"baseline": {"ids": [1, 2, 3]}, "torch-compile": {"ids": [1, 2, 4]}}
    write_session(tmp_path, session=FIRST, greedy=greedy)
    async with workbench(tmp_path).run_test(size=(160, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "texts cannot be shown" in text, "the sentence")
        assert "diverges from the reference's at token 2" in text


async def test_the_devices_noise_floor_stands_beside_the_verdicts(tmp_path: Path) -> None:
    folder = write_session(tmp_path, session=FIRST)
    floor = NoiseFloor(difference=0.012, ratio=1.001, blocks=5, method="baseline", session="20260101-000000-abcdef")
    session = folder.read()
    keep(tmp_path, device_key(session.plan, session.machine), floor)
    async with workbench(tmp_path).run_test(size=(160, 60), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        text = await until(pilot, lambda text: "noise floor 1.2 %" in text, "the floor's line")
        assert floor.sentence() in text
        (line,) = [line for line in text.splitlines() if line.strip("│ ").startswith("noise floor  ")]
        assert line.split("noise floor")[1].count("1.2 %") == 4


async def test_the_csv_is_that_of_the_command_line(
    differing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KASOKU_HOME", str(differing))
    async with workbench(differing).run_test(size=(160, 60), notifications=True) as pilot:
        screen = await compare(pilot, [FIRST, SECOND])
        await until(pilot, lambda text: "Press a" in text, "the refusal")
        await pilot.press("a")
        await until(pilot, lambda text: "8 rows of 2 sessions" in text, "the comparison")
        for keys, baseline in (("", None), ("bbb", "flash-attention-2")):
            await pilot.press(*keys)
            reference = baseline or "baseline"
            await until(pilot, partial(refers_to, screen, reference), "the ratios")
            await pilot.press("e")
            await until(pilot, lambda _: list(tmp_path.glob("kasoku-compare-*.csv")), "the file")
            (file,) = tmp_path.glob("kasoku-compare-*.csv")
            file.rename("screen.csv")
            options = ["--baseline", baseline] if baseline else []
            assert main(["compare", FIRST, SECOND, "--anyway", *options, "--csv", "command.csv"]) == 0
            assert Path("screen.csv").read_text(encoding="utf-8") == Path("command.csv").read_text(encoding="utf-8")


async def test_columns_are_chosen_and_sorted_by_keys_kept_and_exported_as_they_are_seen(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KASOKU_HOME", str(saved))
    config = tmp_path / "config"
    async with Workbench(saved, config).run_test(size=(120, 36), notifications=True) as pilot:
        await compare(pilot, [FIRST])
        await until(pilot, lambda text: "4 rows of 1 session" in text and "tok/s ±95 %" in text, "the figures")
        await pilot.press("c")
        await until(pilot, lambda text: "most GPU memory in use" in text, "the columns with what they mean")
        await pilot.press("slash", *"vram", "enter", "space", "slash", *["backspace"] * 4, *"tok_s_mean", "enter")
        await until(pilot, lambda text: "mean tokens/s of whole requests" in text, "the one that was typed")
        await pilot.press("space", "s", "s", "escape")
        heading = r"method +VRAM peak +tok/s ▼"
        text = await until(pilot, lambda text: re.search(heading, text), "the table")
        below = text[text.index("VRAM peak") :]
        names = re.findall(r"^[│ ]*(\S+) +\S+ [GM]B +[\d.]+", below, re.MULTILINE)
        assert "by tok_s_mean ▼" in text
        await pilot.press("e")
        await until(pilot, lambda _: list(tmp_path.glob("kasoku-compare-*.csv")), "the file")
    (file,) = tmp_path.glob("kasoku-compare-*.csv")
    command = ["compare", FIRST, "--columns", "peak_vram_bytes,tok_s_mean", "--sort", "tok_s_mean:desc"]
    assert main([*command, "--csv", "command.csv"]) == 0
    assert file.read_bytes() == Path("command.csv").read_bytes()
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    assert list(rows[0]) == ["session", "method", "peak_vram_bytes", "tok_s_mean"]
    assert names == [row["method"] for row in rows]
    assert [float(row["tok_s_mean"]) for row in rows] == sorted(
        (float(row["tok_s_mean"]) for row in rows), reverse=True
    )
    assert re.search(heading, capsys.readouterr().out)
    settings, problems = load_settings(config)
    assert (settings.columns, settings.sort, problems) == (("peak_vram_bytes", "tok_s_mean"), "tok_s_mean:desc", ())
    async with Workbench(saved, config, settings=settings).run_test(size=(80, 24), notifications=True) as pilot:
        screen = await compare(pilot, [FIRST])
        await until(pilot, lambda text: re.search(heading, text), "what was kept")
        await pilot.press("O")
        await until(pilot, lambda text: re.search(r"VRAM peak +tok/s ▲", text), "the other order")
        await pilot.press("c", "x", "escape", "o")
        await until(pilot, lambda text: "by ratio ▲" in text and "tok/s ±95 %" in text, "all of it, by the next column")
        first = re.search(r"^[│ ]+[●■▲◆] (\S+)", screen_text(pilot.app), re.MULTILINE)
        assert screen.comparison is not None
        ranked = sorted(
            (row for row in screen.comparison.rows if row.ratio is not None), key=lambda row: row.ratio or 0
        )
        assert first is not None
        assert first[1] == ranked[0].method


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
        await until(pilot, lambda text: "Nothing selected" in text, "the sentence")


def refers_to(screen: CompareScreen, reference: str, text: str) -> bool:
    """Whether the second row is compared with this method."""
    del text
    return screen.comparison is not None and screen.comparison.rows[1].reference == reference


def is_of(screen: CompareScreen, session: str, text: str) -> bool:
    """Whether it is in front with this session's methods."""
    return (
        "rows of 1 session" in text and screen.comparison is not None and screen.comparison.rows[0].session == session
    )


async def compare(pilot: Pilot[None], sessions: list[str], keys: str = "v") -> CompareScreen:
    """Bring the screen to the front with these sessions picked, showing the figures alone unless `keys` is empty."""
    app = pilot.app
    assert isinstance(app, Workbench)
    await app.compare_sessions(sessions)
    screen = app.screen
    assert isinstance(screen, CompareScreen)
    await pilot.press(*keys)
    return screen

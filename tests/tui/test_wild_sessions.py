"""Nothing breaks out of its panel: fifty methods, eight GPUs, long names, right-to-left and double-width text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from textual.app import App

from probes.gpu.facts import GpuFacts
from sessions.disk.records import AnyRecord, Telemetry
from tests.tui.conftest import FIRST, workbench
from tests.tui.journals import MACHINE, MS, Script, make_plan, make_tokeniser, telemetry_rows, write_session
from tests.tui.screen_text import until
from tui.screens.compare import CompareScreen
from tui.screens.run import RunScreen
from tui.screens.session import SessionScreen
from tui.words.terminal_text import CONTROL

WILD = "\u202eمرحبا بالعالم \u200f שלום 加速する推論の速さ 👩‍👩‍👧 e\u0301\u0301 \x1b[31m"
NAMES = tuple(f"m{number:02}-{'long-' * (18 if number % 10 == 0 else 1)}name" for number in range(50))


class EightGpus(Script):
    def _pass(self, ns: int, load: float) -> Iterator[AnyRecord]:
        self.now += ns
        self._energy += ns / 1e9
        while self._tick < self.now:
            yield Telemetry(t=self._tick, rows=telemetry_rows(self._tick, load, gpus=8))
            self._tick += 2000 * MS


def wild_home(home: Path) -> Path:
    """A home with one such session."""
    folder = home / "models" / "small"
    ids = make_tokeniser(folder)
    gpus = tuple(GpuFacts(source=f"gpu{gpu}", name=f"NVIDIA {WILD}" * 4) for gpu in range(8))
    plan = replace(make_plan(NAMES, requests=1, blocks=1, tokens=2), model=f"org/{WILD * 8}", prompt=WILD * 20)
    write_session(
        home,
        replace(plan, device=",".join("01234567")),
        session=FIRST,
        name=(WILD * 8)[:200],
        machine=replace(MACHINE, cpu_model=WILD * 8, gpus=gpus),
        model_folder=str(folder),
        ids=ids,
        speeds=dict.fromkeys(NAMES, 400.0),
        written=EightGpus,
    )
    return home


def assert_within(app: App[Any]) -> None:
    """Each line is as wide as the screen, commands nothing, and leaves the sides of the panels alone."""
    strips = app.screen._compositor.render_strips()
    lines = [strip.text for strip in strips]
    assert {cell_len(line) for line in lines} == {app.size.width}
    assert not CONTROL.search("".join(lines))
    sides = [{cell_len(line[:place]) for place, sign in enumerate(line) if sign == "│"} for line in lines]
    for panel in app.screen.query(".panel"):
        seen = app.screen._compositor.full_map.get(panel)
        if seen is None or panel.styles.border_right[0] != "round":
            continue
        for y in range(seen.visible_region.y, seen.visible_region.bottom):
            if not seen.region.y < y < seen.region.bottom - 1:
                continue
            for x in (seen.region.x, seen.region.right - 1):
                assert x in sides[y], f"{panel} is broken on line {y}:\n" + "\n".join(lines)


async def test_nothing_breaks_out_of_its_panel_and_a_terminal_too_small_is_a_sentence(bare: Path) -> None:
    app = workbench(wild_home(bare), watch=FIRST)
    async with app.run_test(size=(120, 36)) as pilot:
        run = app.screen
        assert isinstance(run, RunScreen)
        await until(pilot, lambda _: run.live is not None and run.live.shown, "the race")
        assert_within(app)
        await pilot.press("n", "2")
        await until(pilot, lambda text: "finished" in text, "the sessions")
        assert_within(app)
        app.open_session(FIRST)
        await until(pilot, lambda _: isinstance(app.screen, SessionScreen) and app.screen.facts, "the session")
        assert_within(app)
        await app.compare_sessions([FIRST])
        await until(pilot, lambda _: isinstance(app.screen, CompareScreen) and app.screen.comparison, "the comparison")
        assert_within(app)
        await pilot.press("1")
        await until(pilot, lambda text: "Last:" in text, "the form")
        assert_within(app)
        await pilot.resize_terminal(20, 5)
        text = await until(pilot, lambda text: "too small" in text, "the sentence")
        assert "make the terminal" in " ".join(text.split())
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda text: "too small" not in text, "the screen again")
        assert_within(app)

"""Rounds side by side on the Run screen: which block runs where, a gauge a GPU, and the strips below the curves."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import msgspec
import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult

from sessions.disk.plan import Plan
from sessions.disk.records import AnyRecord, BlockPhase, BlockStarted, Header, MachineSeen, Telemetry
from sessions.frames.tracks import TRACKS, Track, combined
from sessions.watch.live import Live
from sessions.watch.reducer import LiveReducer
from sessions.watch.time_line import FIRST_STEP_S, MOST_STEPS, Steps
from tests.tui.journals import MS, Script, make_plan, telemetry_rows
from tests.tui.screen_text import until
from tui.read.session_watch import View
from tui.widgets.lane_lines import lane_line_count, lane_lines
from tui.widgets.live_view import LiveView
from tui.widgets.readings import together

LANES = 8


def spread_plan() -> Plan:
    uuids = [f"GPU-{gpu}" for gpu in range(LANES)]
    return dataclasses.replace(
        make_plan(blocks=16), spread=LANES, gpu_uuids=uuids, device=",".join(map(str, range(LANES)))
    )


class SpreadScript(Script):
    """All lanes in the middle of a block, each of another method or round, but the last, which waits."""

    def records(self, ended: bool = False) -> Iterator[AnyRecord]:
        del ended
        yield Header(t=self.now, schema_version=1, session="s", realtime_ns=1)
        gpus = [f"gpu{gpu}" for gpu in range(LANES)]
        for record in self._prepare():
            yield msgspec.structs.replace(record, gpus=gpus) if isinstance(record, MachineSeen) else record
        for lane in range(LANES - 1):
            method = self.plan.methods[lane % len(self.plan.methods)].name
            block = lane + LANES if lane == 3 else lane
            yield BlockStarted(t=self.now, method=method, block=block, position=lane + 1, of=64)
            yield BlockPhase(t=self.now, method=method, block=block, phase="timed" if lane else "load")
            self.now += 300 * MS
        yield from self._request("torch-compile-wrapper", 1, 0, stop_early=True)
        for second in range(8):
            t = self.now + second * 250 * MS
            yield Telemetry(t=t, rows=telemetry_rows(t, 1.0, gpus=LANES))


@pytest.fixture(scope="module")
def view() -> View:
    plan = spread_plan()
    reducer = LiveReducer(plan, "s")
    for record in SpreadScript(plan, "s").records():
        reducer.feed(record)
    return View(reducer.snapshot(), plan, gpu_names={f"gpu{gpu}": "NVIDIA H200" for gpu in range(LANES)})


def test_each_lane_says_its_gpus_and_its_block(view: View) -> None:
    live = view.live
    assert [lane.place for lane in live.lanes] == list(range(LANES - 1))
    assert [lane.gpus for lane in live.lanes] == [(f"gpu{place}",) for place in range(LANES - 1)]
    assert live.at_work == {method.name for method in view.plan.methods}
    assert [(span.lane, span.block) for span in live.blocks][3] == (3, 11)


@pytest.mark.parametrize(("width", "lines"), [(34, 8), (76, 4), (120, 3), (190, 2)])
def test_lanes_fill_their_lines_and_no_more(view: View, width: int, lines: int) -> None:
    drawn = lane_lines(view.live, view.plan, width)
    assert len(drawn) == lane_line_count(LANES, width) == lines
    assert all(sum(cell_len(text) for text, _ in line) <= width for line in drawn)
    text = "\n".join("".join(text for text, _ in line) for line in drawn)
    assert all(re.search(rf"\b{lane + 1} GPU {lane} ", text) for lane in range(LANES - 1))
    assert "waiting" in text
    assert "timing" in text
    assert "loading the model" not in text  # it takes a name's room


def test_a_sum_of_gpus_is_said_only_where_all_were_read(view: View) -> None:
    said = "".join(text for text, _ in together(view.live, 80))
    assert re.fullmatch(r"8 GPUs \d+/5600 W · \d+\.\d/1206 GB · \d+ % busy", said)
    lost = dict(view.live.gauges)
    key = ("gpu7", "power_w")
    lost[key] = dataclasses.replace(lost[key], value=None)
    assert "GPUs – · " in "".join(text for text, _ in together(dataclasses.replace(view.live, gauges=lost), 80))


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield LiveView(id="live")


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60)])
async def test_eight_lanes_and_eight_gpus_fit(view: View, size: tuple[int, int]) -> None:
    async with Shown().run_test(size=size) as pilot:
        live = pilot.app.query_one(LiveView)
        live.show_view(view)

        def whole(text: str) -> bool:
            lanes = all(re.search(rf"\b{lane + 1} GPU {lane} ", text) for lane in range(LANES - 1))
            gpus = all(len(re.findall(rf"GPU {gpu} ", text)) >= 2 for gpu in range(LANES - 1)) and "GPU 7 " in text
            return lanes and gpus and "8 GPUs" in text and "CPU " in text and "waiting for" in text

        await until(pilot, whole, "all lanes and all GPUs")
        if size[1] > 24:
            await until(pilot, lambda text: all(f"lane {n + 1}" in text for n in range(LANES - 1)), "a strip a lane")


def test_readings_stay_within_their_steps_and_keep_their_mean() -> None:
    steps = Steps()
    for tick in range(10 * MOST_STEPS):
        steps.add(tick * FIRST_STEP_S, float(tick % 2))
    means = Track(TRACKS[0], steps.each_s, (steps.copied(),)).values
    assert len(means) <= MOST_STEPS
    assert steps.each_s * len(means) >= 10 * MOST_STEPS * FIRST_STEP_S
    assert set(means) == {0.5}
    assert combined([1.0, None, 3.0], "sum", 3) == 6.0  # made whole
    assert combined([1.0, None, 3.0], "mean", 3) == 2.0
    assert combined([1.0, None, 3.0], "highest", 3) == 3.0
    assert combined([None], "sum", 1) is None


def test_what_was_read_lies_where_it_was_read() -> None:
    plan = make_plan()
    reducer = LiveReducer(plan, "s")
    for record in Script(plan, "s").records():
        reducer.feed(record)
    live: Live = reducer.snapshot()
    kinds = [track.kind for track in live.tracks]
    assert kinds == [kind for kind in TRACKS if kind.metric != "dram_active_percent"]
    power = live.tracks[0]
    assert (len(power.values) - 1) * power.each_s <= live.elapsed_s
    timed = next(span for span in live.blocks if span.method == "baseline")
    begun = int(dict(timed.phases)["timed"] / power.each_s)
    assert max(value or 0 for value in power.values[begun : begun + 2]) > 400  # of both GPUs: 330 and 114 W
    assert (power.values[0] or 0) < 200
    assert timed.end_s is not None
    assert [name for name, _ in timed.phases] == ["", "import", "load", "warmup", "timed", "evidence", "close"]

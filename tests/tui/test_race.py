"""The race: bars from zero with their intervals, all methods' laps over time, and what happens now and next."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given
from rich.cells import cell_len

from sessions.disk.records import BlockPhase, SessionEnded
from sessions.disk.store import Store
from sessions.verdict.comparison import compare
from sessions.verdict.statistics import Interval
from sessions.verdict.verdicts import says_faster
from sessions.watch.following import Follower
from sessions.watch.laps import Lap, Laps
from sessions.watch.live import Live
from sessions.watch.reducer import LiveReducer
from tests.tui.journals import Script, make_plan, write_session
from tui.read.session_watch import View
from tui.widgets.now_lines import NowLines
from tui.widgets.race_bar import race_axis, race_bar, scale_of
from tui.widgets.theme import method_style, sign_of

STYLE = method_style(0)


def drawn(mean: float | None, interval: Interval | None, top: float, width: int) -> str:
    return "".join(text for text, _ in race_bar(mean, interval, top, width, STYLE))


def test_a_bar_is_from_zero_to_the_mean_and_its_whiskers_are_its_interval() -> None:
    assert drawn(50.0, None, 100.0, 21) == "━" * 10 + "●" + " " * 10
    assert drawn(50.0, Interval(50.0, 40.0, 70.0), 100.0, 21) == "━" * 8 + "├─●───┤" + " " * 6
    assert drawn(100.0, Interval(100.0, 90.0, 150.0), 100.0, 21) == "━" * 18 + "├─●"  # cut off: no end
    assert drawn(10.0, Interval(10.0, -5.0, 25.0), 100.0, 21) == "├─●──┤" + " " * 15
    assert drawn(None, None, 100.0, 5) == " " * 5
    assert race_axis(623.3, 20) == "0" + "623.3 tok/s".rjust(19)


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(1e-3, 1e4), st.integers(2, 120))
def test_a_bar_fills_its_width_whatever_the_figures(
    mean: float, low: float, high: float, top: float, width: int
) -> None:
    assert cell_len(drawn(mean, Interval(mean, mean - low, mean + high), top, width)) == width


def test_laps_are_bounded_and_keep_their_times_and_their_mean() -> None:
    laps = Laps(most=8)
    for second in range(100):
        laps.add(Lap(second, second + 0.5, 10.0 + second % 2))
    shown = laps.shown()
    assert len(shown) <= 8 + 16
    assert (shown[0].start_s, shown[-1].end_s) == (0.0, 99.5)
    assert all(one.end_s <= two.start_s for one, two in pairwise(shown))
    assert {round(lap.tok_s, 6) for lap in shown[:4]} == {10.5}


def live_at(until: type) -> tuple[View, Live]:
    """The scripted session at the last record of a kind, without the middle of its last request."""
    plan = make_plan()
    reducer = LiveReducer(plan, "s")
    for record in Script(plan, "s").records(ended=False):
        if isinstance(record, until):
            live = reducer.snapshot()
        reducer.feed(record)
    live = reducer.snapshot() if until is SessionEnded else live
    return View(live, plan), live


def test_every_timed_request_is_a_lap_at_its_rate_and_the_running_one_is_told_apart() -> None:
    _, live = live_at(SessionEnded)
    assert live.lap is not None
    for row in live.methods:
        assert len(row.laps) == row.requests_done
        assert [lap.tok_s for lap in row.laps] == list(row.history)
        assert all(0 < lap.start_s < lap.end_s <= live.elapsed_s for lap in row.laps)
    assert abs(scale_of(live.methods) / max(row.tok_s_mean or 0 for row in live.methods) - 1) < 0.25


def test_the_lines_say_what_happens_how_far_it_is_and_what_comes_next() -> None:
    lines = NowLines()
    view, live = live_at(SessionEnded)
    lines.show_view(view)
    first, second = ("".join(text for text, _ in line) for line in lines.draw(140))
    assert first.startswith(f"{live.method} · request 6 · {live.tokens} tokens · ")
    assert "━" * 12 + "─" * 4 in first  # 48 of 64
    assert second.startswith("✓ start ─ ✓ load ─ ✓ warm-up ─ → timing ─ check ─ close")
    assert "next" not in second  # it is the last block
    view, live = live_at(BlockPhase)
    lines.show_view(view)
    assert all(sum(cell_len(text) for text, _ in line) <= 60 for line in lines.draw(60))


def test_what_comes_next_is_the_plans_next_block() -> None:
    plan = make_plan()
    reducer = LiveReducer(plan, "s")
    lines = NowLines()
    order, said = plan.order(), []
    for record in Script(plan, "s").records(ended=False):
        reducer.feed(record)
        if isinstance(record, BlockPhase) and record.phase == "load":
            lines.show_view(View(reducer.snapshot(), plan))
            said.append("".join(text for text, _ in lines.draw(140)[1]).partition("next: ")[2])
    assert said == [*(f"{block.method}, block {block.block + 1}" for block in order[1:]), ""]
    assert sign_of(STYLE) == "●"


def test_a_word_of_the_race_is_the_verdict_of_the_comparison(tmp_path: Path) -> None:
    """Of three methods that are a little faster, each interval alone may exclude 1 where the three together do not."""
    speeds = {"one": 50.0, "two": 51.2, "three": 51.3, "four": 52.0}
    folder = write_session(tmp_path, make_plan(tuple(speeds), requests=9, tokens=16), speeds=speeds)
    follower = Follower(folder)
    while follower.poll():
        pass
    live = {row.name: row for row in follower.snapshot().methods}
    rows = {row.method: row for row in compare(Store(tmp_path / "sessions"), [(folder.id, None)]).rows}
    assert {name: row.verdict == "faster" for name, row in live.items()} == {
        name: says_faster(row.verdict) for name, row in rows.items()
    }
    alone = {name for name, row in live.items() if row.ratio_interval is not None and row.ratio_interval.low > 1}
    assert alone > {name for name, row in live.items() if row.verdict == "faster"}

"""The widgets' own workings: wrapping, repainting, scrolling, pacing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult

from sessions.frames.block_phases import SEGMENTS
from tests.tui.screen_text import until
from tui.link import Link
from tui.widgets.cell_difference import cells_of, difference
from tui.widgets.live_text import LiveText, wrap
from tui.widgets.plot import Plot, Series
from tui.widgets.theme import method_style
from tui.widgets.time_bars import LOOKS, TimeBars
from tui.words import figures
from tui.words.cells import unparted
from tui.words.field_words import figure, label

WORDS = st.text(alphabet=" abcdé日本\n", max_size=200)


@given(WORDS, st.integers(2, 30))
def test_wrapping_loses_no_letter_and_no_line_is_too_wide(text: str, width: int) -> None:
    lines = wrap("", text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")


@given(WORDS, st.integers(0, 200), st.integers(2, 30))
def test_wrapping_piece_by_piece_gives_what_wrapping_at_once_gives(text: str, at: int, width: int) -> None:
    lines = wrap("", text[:at], width)
    lines[-1:] = wrap(lines[-1], text[at:], width)
    assert [line.rstrip() for line in lines] == [line.rstrip() for line in wrap("", text, width)]


def test_only_cells_that_differ_are_repainted() -> None:
    red, plain = Style.parse("red"), Style()

    def differing(before: Segment, after: Segment) -> list[tuple[int, int]]:
        return difference(cells_of([before]), cells_of([after]))

    before = Segment("tokens 100     left 12 min", plain)
    assert differing(before, before) == []
    assert differing(before, Segment("tokens 101     left 12 min", plain)) == [(9, 10)]
    assert differing(before, Segment("tokens 109     left 11 min", plain)) == [(9, 10), (21, 22)]
    assert differing(before, Segment("tokens 100     left 12 min", red)) == [(0, 26)]
    assert differing(Segment("日本", plain), Segment("日木", plain)) == [(2, 4)]
    assert differing(Segment("日日本", plain), Segment("a日b本", plain)) == [(0, 4)], "no half is left standing"
    assert differing(Segment("ab", plain), Segment("abc", plain)) == [(2, 3)]


def shown(text: LiveText) -> list[str]:
    return [text.render_line(y).text.rstrip() for y in range(text.size.height)]


class TextApp(App[None]):
    def compose(self) -> ComposeResult:
        yield LiveText(id="text")


async def test_text_follows_its_end_until_the_reader_scrolls_up() -> None:
    async with TextApp().run_test(size=(40, 10)) as pilot:
        text = pilot.app.query_one(LiveText)
        text.focus()
        lines = [f"line {number}" for number in range(50)]
        text.show_text("\n".join(lines))
        await pilot.pause()
        assert "line 49" in shown(text)
        await pilot.press("up", "up", "up")
        await pilot.pause()
        at = text.scroll_offset.y
        assert "line 40" in shown(text)
        text.show_text("\n".join([*lines, "more", "and more"]))
        await pilot.pause()
        assert text.scroll_offset.y == at
        assert "and more" not in shown(text)
        await pilot.press("end")
        await pilot.pause()
        text.show_text("\n".join([*lines, "more", "and more", "the end"]))
        await pilot.pause()
        assert "the end" in shown(text)


async def test_another_text_takes_the_place_of_the_first() -> None:
    async with TextApp().run_test(size=(40, 10)) as pilot:
        text = pilot.app.query_one(LiveText)
        text.show_text("a" * 500)
        text.show_text("short")
        await pilot.pause()
        assert text.render_line(0).text.rstrip() == "short"
        assert text.render_line(1).text.strip() == ""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_fast_link_is_free_as_soon_as_the_terminal_answered() -> None:
    clock = Clock()
    link = Link(clock)
    assert link.is_free()
    link.sent()
    assert not Link(clock).backlog
    link.answers = True
    assert not link.is_free()
    clock.now = 0.01
    link.answered()
    assert link.is_free()


def test_a_slow_link_gets_a_pause_as_long_as_a_frame_takes_and_half_a_second_at_most() -> None:
    clock = Clock()
    link = Link(clock)
    link.answers = True
    link.sent()
    clock.now = 0.3
    link.answered()
    assert not link.is_free()
    clock.now = 0.61
    assert link.is_free()
    link.sent()
    clock.now = 5.0
    link.answered()
    clock.now = 5.51
    assert link.is_free()


def test_a_terminal_that_never_answers_is_judged_by_what_its_pty_took() -> None:
    clock = Clock()
    link = Link(clock)
    link.queued(1000)
    link.sent()
    assert not link.is_free()
    clock.now = 0.05
    link.taken(1000)
    assert link.is_free()


def test_a_terminal_that_stops_answering_does_not_freeze_the_view() -> None:
    clock = Clock()
    link = Link(clock)
    link.answered()
    link.sent()
    clock.now = 1.0
    assert not link.is_free()
    clock.now = 4.0
    link.is_free()
    clock.now = 5.0
    assert link.is_free()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.014, "14 ms"), (0.00085, "850 µs"), (3.21, "3.2 s"), (720, "12 min"), (7500, "2 h 05")],
)
def test_durations_are_in_the_unit_a_person_would_use(value: float | None, text: str) -> None:
    assert figures.duration(value) == text


def test_what_is_not_known_is_a_dash_and_never_nought() -> None:
    assert {figures.rate(None), figures.size(None), figures.percent(None), figures.of_total(None, None)} == {"–"}
    assert figures.of_total(3.0e9, 141e9) == "3.0/141 GB"


class PlotApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Plot("power", "s", lambda value: f"{value:.0f}")


async def test_a_plot_has_its_axes_and_says_why_it_is_empty() -> None:
    async with PlotApp().run_test(size=(60, 12)) as pilot:
        plot = pilot.app.query_one(Plot)
        plot.show_series([], reason="No power was read.")
        await pilot.pause()
        assert "No power was read." in plot.render_line(1).text
        plot.show_series([Series("a", [0, 1, 2], [0, 350, 700], "accent")])
        await pilot.pause()
        lines = [plot.render_line(y).text for y in range(10)]
        assert "● a" in lines[0]
        assert lines[1].strip().startswith("700")
        assert lines[8].strip().startswith("0│")
        assert lines[9].split() == ["0", "2", "s"]
        rising = [len(line) - len(line.rstrip()) for line in lines[1:9]]
        assert rising == sorted(rising)


def test_a_plot_says_in_its_title_where_a_cut_axis_begins() -> None:
    cut, whole = (Plot("rate", "s", lambda value: f"{value:.0f}", from_zero=zero) for zero in (False, True))
    for plot in (cut, whole):
        plot.show_series([Series("a", [0, 1], [40, 50], "accent")])
    title, *_ = ("".join(text for text, _ in line) for line in cut.draw(60))
    assert title.startswith("rate, from 40")
    title, *lines = ("".join(text for text, _ in line) for line in whole.draw(60))
    assert title.startswith("rate ")
    assert "from" not in title
    assert lines[-2].strip().startswith("0│")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("peak_vram_bytes", 2_310_000_000, "peak VRAM: 2.31 GB"),
        ("itl_s_p99", 0.00269, "ITL p99: 2.7 ms"),
        ("bandwidth_bytes_s", 4.8e12, "bandwidth: 4.8 TB/s"),
        ("bytes_per_token", 2.7e8, "bytes per token: 270 MB"),
        ("timed_energy_j", 152.829, "timed energy: 152.829 J"),
        ("idle_w", 88, "idle: 88 W"),
        ("dram_active_percent", 24.5, "DRAM active: 24.5 %"),
        ("gpus", ["a", {"b": 1}], 'GPUs: a, {"b": 1}'),
        ("load_s", None, "load: None"),
        ("s", True, "s: True"),
    ],
)
def test_a_field_is_told_in_words_with_its_unit(name: str, value: object, said: str) -> None:
    assert f"{label(name)}: {figure(name, value)}" == said


def test_a_number_is_not_parted_from_its_percent_sign() -> None:
    assert wrap("", "no difference larger than 2.6 %", 30)[-1] == "%"
    assert wrap("", unparted("no difference larger than 2.6 %"), 30) == ["no difference larger than", unparted("2.6 %")]


class Legends(App[None]):
    def compose(self) -> ComposeResult:
        yield Plot("tokens/s of each request", "s", str)


async def test_a_legend_that_does_not_fit_goes_on_below() -> None:
    names = ["baseline", "torch-compile-wrapper", "flash-attention-2", "torch-compile"]
    async with Legends().run_test(size=(80, 24)) as pilot:
        pilot.app.query_one(Plot).show_series(
            [Series(name, [0.0, 1.0], [1.0, 2.0], method_style(place)) for place, name in enumerate(names)]
        )
        text = await until(pilot, lambda text: names[-1] in text, "the last name")
        assert all(f"{sign} {name}" in text for sign, name in zip("●■▲◆", names, strict=True))


@given(st.lists(st.floats(0.001, 500), min_size=len(SEGMENTS), max_size=len(SEGMENTS)), st.integers(30, 200))
def test_a_bar_of_a_blocks_time_has_every_phase_at_its_share(seconds: list[float], width: int) -> None:
    bars = TimeBars()
    bars._bars = {"all": list(zip(SEGMENTS, seconds, strict=True)), "half": [(SEGMENTS[5], sum(seconds) / 2)]}

    lines = ["".join(text for text, _ in line) for line in bars.draw(width)]

    assert all(cell_len(line) <= width for line in lines)
    drawn = [pieces[1:-1] for pieces in bars.draw(width)[1:3]]
    whole, half = (sum(len(text) for text, _ in pieces) for pieces in drawn)
    assert abs(half - whole / 2) <= 1
    assert all(segment.name in "".join(lines[3:]) for segment in SEGMENTS)
    assert set(LOOKS) == {segment.name for segment in SEGMENTS}

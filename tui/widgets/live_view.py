"""A session while it runs (or is replayed): the race, what is going on, the rates over time and the gauges."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.getters import query_one
from textual.widget import Widget

from tui.read.session_watch import View
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.flight_grid import FEW_LINES, MOST_LINES, FlightGrid
from tui.widgets.gauges import Gauges
from tui.widgets.lane_lines import lane_line_count
from tui.widgets.live_text import LiveText
from tui.widgets.methods_table import MethodsTable
from tui.widgets.now_lines import NowLines
from tui.widgets.outcome import Outcome
from tui.widgets.phases import Phases
from tui.widgets.points_table import PointsTable
from tui.widgets.race_plot import RacePlot
from tui.widgets.readings import gpu_line_count
from tui.widgets.session_line import SessionLine
from tui.widgets.theme import titled
from tui.words.host_words import HOST_LOST
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison

WIDE, BROAD = 110, 150
TALL = 34
TALL_CURVE = 4
LAPS_S = 1.0  # a plot of minutes moves no faster
INSTRUMENTS_S = 0.3  # curves shift as a whole and cost most; eyes read needles no faster
ALONE_S = 0.6  # where no view comes to be painted with them: two repaints cost twice as much as one
NO_TEXT = "(this model has no tokeniser: only token IDs are generated)"
TOKEN_CELLS: Final = 4.5  # of a text, about
TEXT_LEAST, PLOT_LEAST = 3, 4  # lines
OUTCOME_LEAST = 6  # lines
TEXT_LEAST_OF_LOAD = 2  # where a grid of requests is above it


class LiveView(Widget):
    """Shows one View after another. Wide terminals have the gauges beside the text, narrow ones below it, compact."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "read", "text", id="live.read", tooltip="Give the text all the room, or no more than it fills"),
        Binding("l", "time_line", "time line", id="live.time_line", tooltip="Give the time line all the room, or not"),
    ]

    DEFAULT_CSS = """
    LiveView {
        layout: vertical;
        height: 1fr;
        #race { height: auto; max-height: 50%; scrollbar-size-vertical: 1; }
        #words { height: 1fr; min-height: 4; }
        #text-pane { width: 3fr; height: 1fr; }
        #now { height: auto; }
        #text { padding: 0 1; }
        #plot { height: 1fr; }
        #gauge-pane { width: 44; height: 1fr; scrollbar-size-vertical: 1; }
        &.broad #gauge-pane { width: 2fr; max-width: 90; }
        #problem { height: auto; padding: 0 1; background: $error 15%; display: none; }
        #problem.shown { display: block; }
        #phases { display: none; }
        &.preparing #phases { display: block; }
        &.preparing #plot { display: none; }
        #points { display: none; }
        #flights { display: none; }
        &.load #points { display: block; }
        &.load #methods { display: none; }
        &.load #flights { display: block; }
        &.load.preparing #flights { display: none; }
        &.load.settled #flights { display: none; }
        #outcome-pane { display: none; height: auto; scrollbar-size-vertical: 1; }
        &.settled #outcome-pane { display: block; }
        &.settled #text { display: none; }
        &.settled.short #plot { display: none; }
        &.cramped #plot { display: none; }
        &.load.cramped #plot { display: block; }
        &.load.cramped #text { display: none; }
        &.load.preparing #plot { display: none; }
        &.timing #plot { display: block; }
        &.timing #text, &.timing #outcome-pane { display: none; }
        &.timing #flights { display: none; }
        &.reading #now { height: 1fr; }
        &.reading #text { display: block; height: 1fr; }
        &.reading #plot { display: none; }
        &.reading #outcome-pane { display: none; }
        #below { height: auto; max-height: 40%; display: none; }
        &.narrow #below { display: block; }
        &.narrow #gauge-pane { display: none; }
    }
    """

    line = query_one("#line", SessionLine)
    table = query_one("#methods", MethodsTable)
    points = query_one("#points", PointsTable)
    flights = query_one("#flights", FlightGrid)
    text = query_one("#text", LiveText)
    gauges = query_one("#gauges", Gauges)
    compact_gauges = query_one("#compact-gauges", Gauges)
    laps = query_one("#laps", RacePlot)
    phases = query_one("#phases", Phases)
    now = query_one("#now-lines", NowLines)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.shown: View | None = None
        self._instruments_at = self._laps_at = 0.0
        self._instruments_due = self._laps_due = False
        self._fitted: tuple[int, ...] | None = None

    def compose(self) -> ComposeResult:
        yield SessionLine(id="line")
        yield Problem(id="problem")
        with titled(VerticalScroll(id="race", can_focus=False), "race"):
            yield MethodsTable(id="methods")
            yield PointsTable(id="points")
        with Horizontal(id="words"):
            with Vertical(id="text-pane"):
                with titled(Vertical(id="now"), "now"):
                    yield Phases(id="phases")
                    yield NowLines(id="now-lines")
                    with VerticalScroll(id="outcome-pane"):
                        yield Outcome(id="outcome")
                    yield FlightGrid(id="flights")
                    yield LiveText(id="text")
                with titled(Vertical(id="plot"), "tokens/s over time"):
                    yield RacePlot(id="laps")
            with titled(VerticalScroll(id="gauge-pane", can_focus=False), "machine"):
                yield Gauges(id="gauges")
        with titled(VerticalScroll(id="below", can_focus=False), "machine"):
            compact = Gauges(id="compact-gauges")
            compact.compact = True
            yield compact

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < WIDE or event.size.height < 16, "narrow")
        self.gauges.curve_height = TALL_CURVE if event.size.height >= TALL else 1
        self.flights.most_lines = MOST_LINES if event.size.height >= TALL else FEW_LINES
        self._fit()
        self._instruments_due = self._laps_due = (
            self.shown is not None
        )  # other gauges may be in view now than were brought up to date
        self.call_after_refresh(self.show_instruments, at_once=True)

    def _fit(self) -> None:
        """Give the text the lines that a whole response takes, and the plot the rest, where that is enough for one."""
        view = self.shown
        if view is None:
            return
        wide, high = self.size
        narrow, reading = self.has_class("narrow"), self.has_class("reading")
        self.set_class(wide >= BROAD and len(view.live.gpus) > 1, "broad")
        load = bool(view.live.points)
        slots = max(len(view.live.flights), *(point.in_flight or 0 for point in view.plan.points)) if load else 0
        state = (wide, high, len(view.live.methods), len(view.live.gpus), reading, len(view.live.points), slots)
        if state == self._fitted:
            return
        self._fitted = state
        border = 1 if narrow else 2
        table = self.points.lines_of(view.live, wide - 4) if load else len(view.live.methods) + 1
        race = min(high // 2, table + border)
        below = min(high * 2 // 5, gpu_line_count(len(view.live.gpus)) + 1 + border) if narrow else 0
        across = max(10, (wide if narrow else wide * 3 // 5 if self.has_class("broad") else wide - 44) - 4)
        now = 1 + (lane_line_count(view.plan.lanes, across) or 1)
        grid = self.flights.lines_of(slots, across) if load else 0
        ended = high - 1 - race - below - now - border  # of outcome and plot, where there is no grid any more
        room = ended - grid  # of text and plot
        self.set_class(ended - OUTCOME_LEAST < PLOT_LEAST + border, "short")
        outcome = ended if self.has_class("short") else ended - PLOT_LEAST - border
        self.query_one("#outcome-pane").styles.max_height = max(1, outcome)
        filled = -(-int(view.plan.sampling.max_new_tokens * TOKEN_CELLS) // across) + 1
        lines = max(TEXT_LEAST_OF_LOAD if load else TEXT_LEAST, min(filled, room // 2))
        lines = min(lines, max(TEXT_LEAST_OF_LOAD, room - PLOT_LEAST - border)) if load else lines
        self.set_class(room - lines < PLOT_LEAST + border, "cramped")
        if reading:
            self.text.styles.clear_rule("height")
            self.text.refresh(layout=True)
        else:
            self.text.styles.height = room if self.has_class("cramped") else lines

    def action_time_line(self) -> None:
        self.remove_class("reading")
        self.toggle_class("timing")
        self._fit()
        self._laps_due = self.shown is not None
        self.call_after_refresh(self.show_instruments, at_once=True)

    def action_read(self) -> None:
        self.remove_class("timing")
        self.toggle_class("reading")
        self._fit()
        self.text.focus()

    def show_outcome(self, comparison: Comparison | None) -> None:
        """Say how the session that is shown ended; None: it has not."""
        self.set_class(comparison is not None, "settled")
        self.query_one("#outcome", Outcome).show_comparison(comparison)

    def show_view(self, view: View, mode: str = "") -> None:
        """Bring every part up to this moment; parts that did not change paint nothing."""
        before, self.shown = self.shown, view
        live = view.live
        preparing = live.status == "preparing" or (live.method is None and not live.text and not view.over)
        self.set_class(preparing, "preparing")
        self.line.show_live(live, view.plan, mode, view.closing)
        if bool(live.points) != self.has_class("load"):
            self.set_class(bool(live.points), "load")
            together = ", all in flight together" if live.points else ""
            self.query_one("#plot").border_title = f"tokens/s over time{together}"
        self._fit()
        self.table.show_live(live)
        self.points.show_live(live)
        self.flights.show_live(live)
        if preparing or (before is not None and before.live.phases != live.phases):
            self.phases.show_phases(live.phases, live.notes[-3:])
        self.now.show_view(view)
        self.text.show_text(live.text or (NO_TEXT if live.tokens and not live.text else ""))
        self._instruments_due = self._laps_due = True
        self.show_instruments(at_once=view.over or before is None)
        lost = HOST_LOST if view.lost else ""
        self.query_one("#problem", Problem).show_sentence(view.problem or live.error or lost)

    def show_instruments(self, at_once: bool = False, alone: bool = False) -> None:
        """Bring plot and gauges up to the last view, where they are not and it is time, which is later if `alone`."""
        now = time.monotonic()
        view, after_s = self.shown, ALONE_S if alone else INSTRUMENTS_S
        if view is not None and self._laps_due and (at_once or now - self._laps_at >= LAPS_S):
            self._laps_due, self._laps_at = False, now
            self.laps.show_live(view.live)
        if view is None or not self._instruments_due or (now - self._instruments_at < after_s and not at_once):
            return
        self._instruments_due, self._instruments_at = False, now
        gauges = self.compact_gauges if self.has_class("narrow") else self.gauges
        gauges.show_live(view.live, view.gpu_names)


class Problem(DrawnLines):
    """A sentence about what went wrong, wrapped; not there while there is none."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._sentence = ""

    @property
    def sentence(self) -> str:
        return self._sentence

    def show_sentence(self, sentence: str) -> None:
        if sentence == self._sentence:
            return
        self._sentence = sentence
        self.set_class(bool(sentence), "shown")
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        from tui.widgets.live_text import wrap

        return [[(line, "bad")] for line in wrap("", plain(self._sentence), width)] if self._sentence else []

"""A session while it runs (or is replayed): the table, the text as it comes, the curve and the gauges."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.getters import query_one
from textual.widget import Widget

from tui.read.session_watch import View
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.flight_grid import FEW_LINES, MOST_LINES, FlightGrid
from tui.widgets.gauges import Gauges
from tui.widgets.live_text import LiveText
from tui.widgets.methods_table import MethodsTable
from tui.widgets.outcome import Outcome
from tui.widgets.phases import Phases
from tui.widgets.points_table import PointsTable
from tui.widgets.rate_curve import RateCurve
from tui.widgets.session_line import SessionLine
from tui.words import figures
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison

WIDE = 110
TALL = 34
TALL_CURVE = 4
INSTRUMENTS_S = 0.3  # curves shift as a whole and cost most; eyes read needles no faster
NO_TEXT = "(this model has no tokeniser: only token IDs are generated)"


class TextTitle(DrawnLines):
    """Which method and request the text below belongs to."""

    DEFAULT_CSS = """
    TextTitle { height: 1; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._line: list[Piece] = []

    def show_pieces(self, line: list[Piece]) -> None:
        self._line = line
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        del width
        return [self._line]


class LiveView(Widget):
    """Shows one View after another. Wide terminals have the gauges beside the text, narrow ones below it, compact."""

    DEFAULT_CSS = """
    LiveView {
        layout: vertical;
        height: 1fr;
        #table { height: auto; max-height: 50%; border-bottom: solid $panel; scrollbar-size-vertical: 1; }
        #words { height: 1fr; min-height: 4; }
        #text-pane { width: 1fr; height: 1fr; }
        #text { height: 1fr; padding: 0 1; }
        #gauge-pane { width: 1fr; max-width: 90; height: 1fr; border-left: solid $panel; scrollbar-size-vertical: 1; }
        #problem { height: auto; padding: 0 1; background: $error 15%; display: none; }
        #problem.shown { display: block; }
        #phases { display: none; }
        &.preparing #phases { display: block; }
        #points { display: none; }
        #flights { display: none; }
        &.load #points { display: block; }
        &.load #methods { display: none; }
        &.load #flights { display: block; }
        &.load.preparing #flights { display: none; }
        &.load.settled #flights { display: none; }
        #outcome-pane { display: none; height: auto; max-height: 80%; scrollbar-size-vertical: 1; }
        &.settled #outcome-pane { display: block; }
        #below { height: auto; max-height: 40%; display: none; border-top: solid $panel; }
        &.narrow #below { display: block; }
        &.narrow #gauge-pane { display: none; }
        &.narrow #curve { height: 1; }
        &.tall #curve { height: 6; }
    }
    """

    line = query_one("#line", SessionLine)
    table = query_one("#methods", MethodsTable)
    points = query_one("#points", PointsTable)
    flights = query_one("#flights", FlightGrid)
    text = query_one("#text", LiveText)
    gauges = query_one("#gauges", Gauges)
    compact_gauges = query_one("#compact-gauges", Gauges)
    curve = query_one("#curve", RateCurve)
    phases = query_one("#phases", Phases)
    title = query_one("#title", TextTitle)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.shown: View | None = None
        self._instruments_at = 0.0
        self._instruments_due = False

    def compose(self) -> ComposeResult:
        yield SessionLine(id="line")
        yield Problem(id="problem")
        with VerticalScroll(id="table", can_focus=False):
            yield MethodsTable(id="methods")
            yield PointsTable(id="points")
        with Horizontal(id="words"):
            with Vertical(id="text-pane"):
                yield Phases(id="phases")
                yield TextTitle(id="title")
                with VerticalScroll(id="outcome-pane"):
                    yield Outcome(id="outcome")
                yield FlightGrid(id="flights")
                yield LiveText(id="text")
                yield RateCurve(id="curve")
            with VerticalScroll(id="gauge-pane", can_focus=False):
                yield Gauges(id="gauges")
        with VerticalScroll(id="below", can_focus=False):
            compact = Gauges(id="compact-gauges")
            compact.compact = True
            yield compact

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < WIDE or event.size.height < 16, "narrow")
        self.set_class(event.size.height >= TALL, "tall")
        self.gauges.curve_height = TALL_CURVE if event.size.height >= TALL else 1
        self.flights.most_lines = MOST_LINES if event.size.height >= TALL else FEW_LINES
        self._instruments_due = self.shown is not None  # other gauges may be in view now than were brought up to date
        self.call_after_refresh(self.show_instruments, at_once=True)

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
        self.set_class(bool(live.points), "load")
        self.table.show_live(live)
        self.points.show_live(live)
        self.flights.show_live(live)
        if preparing or (before is not None and before.live.phases != live.phases):
            self.phases.show_phases(live.phases, live.notes[-3:])
        self.title.show_pieces(self._title(view))
        self.text.show_text(live.text or (NO_TEXT if live.tokens and not live.text else ""))
        self._instruments_due = True
        self.show_instruments(at_once=view.over or before is None)
        self.query_one("#problem", Problem).show_sentence(view.problem or live.error)

    def show_instruments(self, at_once: bool = False) -> None:
        """Bring curve and gauges up to the last view, where they are not and it is time."""
        now = time.monotonic()
        view = self.shown
        if view is None or not self._instruments_due or (now - self._instruments_at < INSTRUMENTS_S and not at_once):
            return
        self._instruments_due, self._instruments_at = False, now
        self.curve.show_curve(view.live.curve, view.live.tok_s_now)
        gauges = self.compact_gauges if self.has_class("narrow") else self.gauges
        gauges.show_live(view.live, view.gpu_names)

    def _title(self, view: View) -> list[Piece]:
        live = view.live
        if live.method is None:
            if view.closing:
                return [("Writing the frames…", "accent")]
            if view.over:
                words = {"finished": "Session complete: enter opens it, 3 compares it."}
                return [(words.get(live.status, f"The session is {live.status}."), "accent")]
            return [(plain(live.notes[-1]), "warning")] if live.notes else []
        what = (
            "warm-up"
            if live.warmup
            else f"request {live.request + 1}"
            if live.request is not None
            else live.block_phase
        )
        line: list[Piece] = [(live.method, "accent"), (f" · {live.point}" if live.point else "", "strong")]
        line.append((f" · {what}", ""))
        if live.tokens:
            line.append((f" · {live.tokens} tokens · {figures.rate(live.tok_s_now)} tok/s", "dim"))
        if live.notes:
            line.append((f" · ! {plain(live.notes[-1])}", "warning"))
        return line


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

"""Session: one session in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TabbedContent, TabPane

from sessions.disk.session_folder import SessionError
from tui.screens.more_rounds import add_fidelity, add_rounds, fidelity_binding, more_binding
from tui.screens.workbench_screen import WorkbenchScreen
from tui.widgets.facts import Facts
from tui.widgets.fidelity_table import FidelityTable, MethodFidelity
from tui.widgets.key_bar import KeyBar
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.widgets.session_time_line import SessionTimeLine, TimeLineData
from tui.widgets.stepped_tabs import SteppedTabs
from tui.widgets.theme import method_style
from tui.widgets.time_bars import TimeBars
from tui.words import figures
from tui.words.fact import Fact
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.disk.frame_schema import FrameRow
    from tui.read.session_facts import SessionFacts

WIDE = 120
STATUS_STYLES = {"ok": "good", "stopped": "warning", "unavailable": "dim"}


class SessionScreen(WorkbenchScreen):
    """Tabs: the session and its machine, the runs with evidence and log, the requests with text, the timeline, and the
    fidelity where it was measured."""

    CSS_PATH = "session.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "back", id="session.close", tooltip="Go back"),
        Binding(
            "left", "tab(-1)", "tab", id="session.previous", tooltip="The previous tab", key_display="←", show=False
        ),
        Binding("right", "tab(1)", "next tab", id="session.next", tooltip="The next tab", key_display="→"),
        Binding("c", "compare", "compare", id="session.compare", tooltip="Compare this session's methods"),
        Binding("e", "export", "export", id="session.export", tooltip="Write this session's frames as CSV"),
        more_binding("session"),
        fidelity_binding("session"),
        Binding("p", "replay", "replay", id="session.replay", tooltip="Replay this session"),
        Binding(
            "comma", "move(-1)", "earlier", id="session.earlier", tooltip="Look at an earlier part", key_display=","
        ),
        Binding("full_stop", "move(1)", "later", id="session.later", tooltip="See a later part", key_display="."),
        Binding(
            "plus,equals_sign", "zoom(1)", "nearer", id="session.nearer", tooltip="Half as much time", key_display="+"
        ),
        Binding("minus", "zoom(-1)", "all", id="session.farther", tooltip="Twice as much time", show=False),
        Binding("0", "whole", "all", id="session.whole", tooltip="The whole session", show=False),
    ]

    class Read(Message):
        """The session was read, or the sentence that says why not."""

        def __init__(self, facts: SessionFacts | str) -> None:
            super().__init__()
            self.facts = facts

    def __init__(self, session: str) -> None:
        super().__init__()
        self.session = session
        self.facts: SessionFacts | None = None
        self._places: Mapping[str, int] = {}

    def compose(self) -> ComposeResult:
        yield Static(Content(f"session {self.session}"), id="head")
        with SteppedTabs(initial="overview"):
            with TabPane("overview", id="overview"), VerticalScroll(id="overview-scroll"):
                yield Facts([Fact("", "Reading the session…", "dim")], id="overview-facts")
            with TabPane("runs", id="runs"), Container(classes="list-pane"):
                runs: list[ListColumn[FrameRow]] = [
                    ListColumn("method", 16, self._method_cell, grow=1),
                    ListColumn(
                        "block", 5, lambda run: str(run["block"] + 1), right=True, sort=lambda run: run["block"]
                    ),
                    ListColumn("status", 11, _status_cell, sort=lambda run: run["status"]),
                    ListColumn("load", 7, lambda run: figures.duration(run["load_s"]), right=True),
                    ListColumn("in effect", 9, _effect_cell),
                ]
                yield RowList(runs, _run_key, empty="No runs.", id="run-list")
                with VerticalScroll(classes="detail"):
                    yield Facts(id="run-facts")
            with TabPane("requests", id="requests"), Container(classes="list-pane"):
                requests: list[ListColumn[FrameRow]] = [
                    ListColumn("method", 14, self._method_cell, grow=1, sort=lambda row: row["method"]),
                    ListColumn("request", 7, _request_cell, right=True, sort=lambda row: row["request"]),
                    ListColumn("tok/s", 7, lambda row: figures.rate(row["e2e_tok_s"]), right=True, sort=_e2e),
                    ListColumn("TTFT", 7, lambda row: figures.duration(row["ttft_s"]), right=True, sort=_ttft),
                    ListColumn("tokens", 6, lambda row: str(row["output_tokens"]), right=True),
                    ListColumn("end", 6, lambda row: str(row["finish_reason"] or figures.UNKNOWN), need=60),
                ]
                yield RowList(requests, _request_key, empty="No requests.", id="request-list")
                with VerticalScroll(classes="detail"):
                    yield Facts(id="request-facts")
            with TabPane("timeline", id="timeline"), VerticalScroll():
                yield TimeBars(id="time-bars")
                yield SessionTimeLine(id="time-line")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#overview-scroll").focus()
        self.load()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= WIDE, "wide")

    @work(thread=True, exclusive=True, exit_on_error=False, name="Reading the session")
    def load(self) -> None:
        from tui.read.session_facts import read_session

        try:
            self.post_message(self.Read(read_session(self.workbench.store, self.session)))
        except SessionError as error:
            self.post_message(self.Read(str(error)))

    @on(Read)
    async def show_read(self, event: Read) -> None:
        facts = event.facts
        overview = self.query_one("#overview-facts", Facts)
        if isinstance(facts, str):
            overview.show_facts([Fact("", facts, "bad")])
            return
        self.facts, self._places = facts, _places(facts)
        self.refresh_bindings()
        session = facts.session
        name = f" · {one_line(session.name, 60)}" if session.name else ""
        model = one_line(session.plan.model, 60)
        head = f"session {self.session}{name} · {one_line(session.status, 20)} · {model}"
        self.query_one("#head", Static).update(Content(head))
        said = [Fact("", facts.problem, "warning")] if facts.problem else []
        overview.show_facts([*said, *facts.overview])
        self.query_one("#run-list", RowList).show_rows(facts.runs)
        self.query_one("#request-list", RowList).show_rows(facts.requests)
        self._plot(facts)
        if facts.fidelity:
            await self._show_fidelity([MethodFidelity(*one) for one in facts.fidelity], self._places)

    async def _show_fidelity(self, methods: Sequence[MethodFidelity], places: Mapping[str, int]) -> None:
        if not self.query(FidelityTable):
            pane = TabPane("fidelity", VerticalScroll(FidelityTable()), id="fidelity")
            await self.query_one(SteppedTabs).add_pane(pane)
        self.query_one(FidelityTable).show_methods(methods, places)

    def _method_cell(self, row: FrameRow) -> Cell:
        place = self._places.get(row["method"])
        return (one_line(row["method"], 60), "" if place is None else method_style(place))

    def _plot(self, facts: SessionFacts) -> None:
        places = self._places
        self.query_one("#time-bars", TimeBars).show_bars(facts.times, places)
        data = TimeLineData(facts.laps, facts.blocks, facts.curves)
        self.query_one("#time-line", SessionTimeLine).show_session(data, places)

    @on(RowList.Highlighted, "#run-list")
    def show_run(self, event: RowList.Highlighted) -> None:
        from tui.read.session_facts import run_facts

        facts: list[Fact] = []
        if event.row is not None:
            facts = run_facts(self.workbench.store.at(self.session), event.row)
        self.query_one("#run-facts", Facts).show_facts(facts)

    @on(RowList.Highlighted, "#request-list")
    def show_request(self, event: RowList.Highlighted) -> None:
        row = event.row
        facts: list[Fact] = []
        if row is not None:
            what = "warm-up" if row["warmup"] else f"request {row['request'] + 1}"
            facts.append(Fact("", f"{row['method']} · block {row['block'] + 1} · {what}"))
            facts += [Fact("flag", flag, "warning") for flag in row["flags"] or ()]
            facts.append(Fact("end to end", figures.duration(row["e2e_s"])))
            facts.append(Fact("decode tok/s", figures.rate(row["decode_tok_s"])))
            facts.append(Fact("prompt tokens", str(row["prompt_tokens"])))
            facts += [Fact("", " "), Fact("", row["text"] or "(no text)", "text" if row["text"] else "dim")]
        self.query_one("#request-facts", Facts).show_facts(facts)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        if action in ("move", "zoom", "whole"):
            return self.query_one(TabbedContent).active == "timeline" if self.is_mounted else False
        if action == "fidelity":
            return self.facts is not None and self.facts.unscored
        return self.facts is not None and self.facts.more > 0 if action == "more" else True

    @work(exit_on_error=False, name="Adding rounds")
    async def action_more(self) -> None:
        if self.facts is not None and self.facts.more:
            await add_rounds(self.workbench, self.session, self.facts.more)

    @work(exit_on_error=False, name="Adding fidelity")
    async def action_fidelity(self) -> None:
        if self.facts is not None and self.facts.unscored:
            await add_fidelity(self.workbench, self.session)

    @property
    def _time_line(self) -> SessionTimeLine:
        return self.query_one("#time-line", SessionTimeLine)

    def action_move(self, steps: int) -> None:
        self._time_line.move(steps)

    def action_zoom(self, steps: int) -> None:
        self._time_line.zoom(steps)

    def action_whole(self) -> None:
        self._time_line.whole()

    def action_close(self) -> None:
        self.app.pop_screen()

    def action_tab(self, step: int) -> None:
        self.query_one(SteppedTabs).step(step)

    @on(TabbedContent.TabActivated)
    def focus_tab(self) -> None:
        pane = self.query_one(SteppedTabs).active  # which may be another by now
        target = {"overview": "#overview-scroll", "runs": "#run-list", "requests": "#request-list"}
        wanted = target.get(pane, f"#{pane} VerticalScroll")
        self.query_one(wanted).focus()
        self.refresh_bindings()

    async def action_compare(self) -> None:
        await self.workbench.compare_sessions([self.session])

    async def action_replay(self) -> None:
        try:
            folder = self.workbench.store.folder(self.session)
        except SessionError as error:
            self.workbench.notify(str(error), severity="error", markup=False)
            return
        await self.workbench.watch_session(folder, replay=not folder.is_live())

    @work(thread=True, exit_on_error=False, name="Exporting")
    def action_export(self) -> None:
        from sessions.export.csv_export import ExportError, export_session

        app = self.workbench
        try:
            written = export_session(app.store.folder(self.session), Path(f"kasoku-{self.session}"))
        except (ExportError, SessionError) as error:
            app.call_from_thread(app.notify, str(error), severity="error", markup=False, timeout=10)
        else:
            names = ", ".join(frame.path.name for frame in written)
            said = f"Wrote {names} to {written[0].path.parent}"
            notices = [frame.notice for frame in written if frame.notice]
            app.call_from_thread(app.notify, " ".join([said, *notices]), markup=False, timeout=10)


def _places(facts: SessionFacts) -> dict[str, int]:
    """The place of each method in the session, which decides on its colour."""
    return {method.name: place for place, method in enumerate(facts.session.plan.methods)}


def _run_key(run: FrameRow) -> str:
    return f"{run['method']}:{run['block']}:{run.get('attempt')}"


def _request_key(row: FrameRow) -> str:
    return f"{row['method']}:{row['block']}:{row.get('attempt')}:{row['request']}:{row['sequence']}"


def _e2e(row: FrameRow) -> float | None:
    return row["e2e_tok_s"]  # type: ignore[no-any-return]


def _ttft(row: FrameRow) -> float | None:
    return row["ttft_s"]  # type: ignore[no-any-return]


def _status_cell(run: FrameRow) -> Cell:
    return (str(run["status"]), STATUS_STYLES.get(run["status"], "bad"))


def _effect_cell(run: FrameRow) -> Cell:
    return (figures.yes_no(run["in_effect"]), {True: "good", False: "bad"}.get(run["in_effect"], "dim"))


def _request_cell(row: FrameRow) -> Cell:
    return ("warm-up", "dim") if row["warmup"] else str(row["request"] + 1)

"""Sessions: all saved ones, newest first."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.getters import query_one
from textual.message import Message
from textual.widgets import Input, Static

from sessions.disk.listing import SessionRow
from sessions.disk.session_folder import SessionError
from tui.read.listings import Listing, listings
from tui.screens.ask import AskText, Confirm
from tui.screens.workbench_screen import WorkbenchScreen
from tui.widgets.key_bar import KeyBar
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.words import figures
from tui.words.host_words import OUT_OF_REACH
from tui.words.terminal_text import one_line

STATUS_STYLES = {
    "finished": "good",
    "running": "accent",
    "preparing": "accent",
    "stopped": "warning",
    "interrupted": "warning",
    "failed": "bad",
    "unreadable": "bad",
}


class SessionsScreen(WorkbenchScreen):
    """The list is read in a thread and only visible lines are drawn, so thousands stay instant."""

    CSS_PATH = "sessions.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", id="sessions.filter", tooltip="Type to filter the list", key_display="/"),
        Binding("c", "compare", "compare", id="sessions.compare", tooltip="Compare the ticked sessions, or this one"),
        Binding("e", "export", "export", id="sessions.export", tooltip="Write this session's frames as CSV"),
        Binding("p", "replay", "replay", id="sessions.replay", tooltip="Replay this session"),
        Binding("u", "resume", "resume", id="sessions.resume", tooltip="Run this session's missing blocks"),
        Binding("x,delete", "delete", "delete", id="sessions.delete", tooltip="Delete this session permanently"),
        Binding("n", "rename", "name", id="sessions.rename", tooltip="Give this session another name"),
        Binding("t", "tag", "tags", id="sessions.tag", tooltip="Give this session tags, separated by commas"),
        Binding("f5", "reload", "reload", show=False, id="sessions.reload", tooltip="Reload the list"),
        Binding("escape", "leave_filter", "Back", show=False, id="sessions.leave", tooltip="Back to the list"),
    ]

    rows = query_one("#sessions", RowList)

    class Loaded(Message):
        """The list was read, or so far as is known at once."""

        def __init__(self, listing: Listing) -> None:
            super().__init__()
            self.listing = listing

    def __init__(self) -> None:
        super().__init__()
        self._all: list[tuple[str, SessionRow]] = []
        self._problem = ""  # with the store, as last said

    def compose(self) -> ComposeResult:
        with Horizontal(id="bar"):
            yield Static(Content("sessions"))
            yield Input(placeholder="/ to filter by name, tag, model…", id="filter", compact=True)
            yield Static("", id="count", markup=False)
        columns: list[ListColumn[SessionRow]] = [
            ListColumn("when", 16, _when, sort=lambda row: row.created_ns or None),
            ListColumn("name", 10, _name, grow=3, sort=lambda row: row.name.lower() or None),
            ListColumn(
                "status", 11, lambda row: (row.status, STATUS_STYLES.get(row.status, "")), sort=lambda row: row.status
            ),
            ListColumn("model", 14, lambda row: one_line(row.model, 60), grow=1, need=84, sort=lambda row: row.model),
            ListColumn("#", 2, lambda row: str(len(row.methods)), right=True, sort=lambda row: len(row.methods)),
            ListColumn("device", 6, lambda row: one_line(row.device, 12), need=132, sort=lambda row: row.device),
            ListColumn(
                "requests", 8, lambda row: str(row.requests), right=True, need=132, sort=lambda row: row.requests
            ),
            ListColumn("blocks", 6, lambda row: str(row.blocks), right=True, need=132, sort=lambda row: row.blocks),
            ListColumn(
                "fastest", 15, lambda row: one_line(row.best, 40), grow=2, need=74, sort=lambda row: row.best or None
            ),
            ListColumn(
                "tok/s", 7, lambda row: figures.rate(row.best_tok_s), right=True, sort=lambda row: row.best_tok_s
            ),
        ]
        if self.workbench.store.shared is not None:
            columns.insert(2, ListColumn("in", 5, _where, sort=lambda row: row.store or None))
        yield RowList(columns, lambda row: row.id, markable=True, empty="Reading the sessions…", id="sessions")
        yield Static("", id="below", markup=False)
        yield KeyBar()

    def on_mount(self) -> None:
        self.rows.focus()

    def on_screen_resume(self) -> None:
        self.load()

    # The list

    @work(thread=True, exclusive=True, group="list", exit_on_error=False, name="Reading the sessions")
    def load(self) -> None:
        for listing in listings(self.workbench.store):
            self.post_message(self.Loaded(listing))

    @on(Loaded)
    def show_loaded(self, event: Loaded) -> None:
        listing = event.listing
        self._all = [(_haystack(row), row) for row in listing.rows]
        self._show_filtered()
        if listing.whole and listing.problem != self._problem:
            self._problem = listing.problem
            if listing.problem:
                self.workbench.notify(listing.problem, severity="warning", markup=False, timeout=12)

    @on(Input.Changed, "#filter")
    def show_filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._show_filtered()

    def _show_filtered(self) -> None:
        words = self.query_one("#filter", Input).value.lower().split()
        found = [row for text, row in self._all if all(word in text for word in words)]
        empty = "No session matches: escape and an empty filter show all." if self._all else NONE_YET
        self.rows.show_rows(found, empty)
        count = f"{len(found)} of {len(self._all)}" if words else f"{len(self._all)} sessions"
        self.query_one("#count", Static).update(Content(count))

    @on(Input.Submitted, "#filter")
    def filter_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.rows.focus()

    def action_filter(self) -> None:
        self.query_one("#filter", Input).focus()

    def action_leave_filter(self) -> None:
        box = self.query_one("#filter", Input)
        if not box.has_focus:
            box.value = ""
        self.rows.focus()

    def action_reload(self) -> None:
        self.load()

    @on(RowList.Highlighted)
    def describe(self, event: RowList.Highlighted) -> None:
        event.stop()
        row = event.row
        text = ""
        if row is not None:
            parts = [row.id, ", ".join(one_line(name, 40) for name in row.methods)]
            parts += [f"tags: {', '.join(one_line(tag, 40) for tag in row.tags)}"] if row.tags else []
            parts += [f"in {one_line(row.store, 100)}"] if row.store else []
            parts += [f"on {one_line(row.host, 40)}" + (f", {OUT_OF_REACH}" if row.lost else "")] if row.host else []
            parts += [one_line(row.problem, 300)] if row.problem else []
            text = " · ".join(part for part in parts if part)
        self.query_one("#below", Static).update(Content(text))

    # What can be done with a session

    @on(RowList.Chosen)
    def open_chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        self.workbench.open_session(event.row.id)

    async def action_compare(self) -> None:
        row = self.rows.row
        picked = self.rows.marked or ([row.id] if row is not None else [])
        if picked:
            await self.workbench.compare_sessions(picked)

    @work(exit_on_error=False, name="Renaming")
    async def action_rename(self) -> None:
        if (row := self._own_row()) is None:
            return
        name = await self.app.push_screen_wait(AskText(f"Name of {row.id}", row.name))
        if name is not None:
            self._relabel(row.id, name=name)

    @work(exit_on_error=False, name="Tagging")
    async def action_tag(self) -> None:
        if (row := self._own_row()) is None:
            return
        tags = await self.app.push_screen_wait(AskText(f"Tags of {row.id}, separated by commas", ", ".join(row.tags)))
        if tags is not None:
            self._relabel(row.id, tags=tags.split(","))

    def _relabel(self, session: str, name: str | None = None, tags: list[str] | None = None) -> None:
        try:
            self.workbench.store.relabel(session, name=name, tags=tags)
        except SessionError as error:
            self.workbench.notify(str(error), severity="error", markup=False)
        self.load()

    @work(exit_on_error=False, name="Deleting")
    async def action_delete(self) -> None:
        marked = self.rows.marked
        row = self.rows.row
        doomed = marked or ([row.id] if row is not None else [])
        if theirs := {row.id for _, row in self._all if row.store}.intersection(doomed):
            self._say_shared(min(theirs))
            return
        if not doomed:
            return
        what = f"{len(doomed)} sessions" if len(doomed) > 1 else doomed[0]
        if not await self.app.push_screen_wait(Confirm(f"Delete {what} permanently?")):
            return
        for session in doomed:
            try:
                self.workbench.store.delete(session)
            except SessionError as error:
                self.workbench.notify(str(error), severity="error", markup=False)
        self.rows.mark([])
        self.load()

    def action_export(self) -> None:
        if (row := self.rows.row) is not None:
            self._export(row.id)

    @work(thread=True, exit_on_error=False, name="Exporting")
    def _export(self, session: str) -> None:
        from sessions.export.csv_export import ExportError, export_session

        app = self.workbench
        try:
            written = export_session(app.store.folder(session), Path(f"kasoku-{session}"))
        except (ExportError, SessionError) as error:
            app.call_from_thread(app.notify, str(error), severity="error", markup=False, timeout=10)
        else:
            names = ", ".join(frame.path.name for frame in written)
            said = f"Wrote {names} to {written[0].path.parent}"
            notices = [frame.notice for frame in written if frame.notice]
            app.call_from_thread(app.notify, " ".join([said, *notices]), markup=False, timeout=10)

    async def action_replay(self) -> None:
        if (row := self.rows.row) is None:
            return
        if row.store:
            self._replay_shared(row.id)
            return
        try:
            folder = self.workbench.store.folder(row.id)
        except SessionError as error:
            self.workbench.notify(str(error), severity="error", markup=False)
            return
        await self.workbench.watch_session(folder, replay=row.status not in ("running", "preparing"))

    @work(thread=True, exit_on_error=False, name="Fetching the session")
    def _replay_shared(self, session: str) -> None:
        app = self.workbench
        try:
            folder = app.store.folder(session)
            app.store.fetch([session])
        except SessionError as error:
            app.call_from_thread(app.notify, str(error), severity="error", markup=False, timeout=10)
        else:
            app.call_later(app.watch_session, folder, replay=True)

    def _own_row(self) -> SessionRow | None:
        """The row under the cursor, if it can be changed here; otherwise that is said."""
        row = self.rows.row
        if row is not None and row.store:
            self._say_shared(row.id)
            return None
        return row

    def _say_shared(self, session: str) -> None:
        said = f"{session} is in the team's store, where nothing but `kasoku publish` changes anything."
        self.workbench.notify(said, severity="warning", markup=False)

    def action_resume(self) -> None:
        if (row := self._own_row()) is None:
            return
        if row.status == "finished":
            self.workbench.notify(f"{row.id} is complete: nothing to resume.", markup=False)
            return
        self._resume(row.id)

    @work(thread=True, exit_on_error=False, name="Resuming")
    def _resume(self, session: str) -> None:
        from sessions.run.launch import resume

        app = self.workbench
        try:
            folder = app.store.folder(session)
            if not folder.is_live():
                resume(folder, app.home)
        except SessionError as error:
            app.call_from_thread(app.notify, str(error), severity="error", markup=False, timeout=10)
        else:
            app.call_later(app.watch_session, folder)


NONE_YET = "There are no sessions yet: press 1 to run one."


def _haystack(row: SessionRow) -> str:
    """All that the filter looks at, in small letters."""
    return " ".join((row.id, row.name, row.status, row.model, row.device, *row.tags, *row.methods)).lower()


def _when(row: SessionRow) -> Cell:
    if not row.created_ns:
        return (row.id[:15], "dim")
    return f"{datetime.fromtimestamp(row.created_ns / 1e9).astimezone():%Y-%m-%d %H:%M}"


def _status(row: SessionRow) -> Cell:
    return (row.status, STATUS_STYLES.get(row.status, ""))


def _where(row: SessionRow) -> Cell:
    return ("store", "accent") if row.store else ("here", "dim")


def _name(row: SessionRow) -> Cell:
    if row.name:
        tags = "".join(f" #{tag}" for tag in row.tags)
        return one_line(row.name + tags, 80)
    if row.tags:
        return one_line(" ".join(f"#{tag}" for tag in row.tags), 80)
    return (row.id[-6:], "dim")

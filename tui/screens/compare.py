"""Compare: any methods of any sessions side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.getters import query_one
from textual.message import Message
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from sessions.disk.session_folder import SessionError
from tui.read.listings import listings
from tui.read.picks import Pick, picks_of
from tui.screens.chosen_table import NOTHING, TABLE_KEYS, ChosenTable
from tui.screens.more_rounds import add_fidelity, add_rounds, fidelity_binding, more_binding
from tui.widgets.answer_lines import AnswerLines
from tui.widgets.comparison_plots import ComparisonPlots
from tui.widgets.comparison_table import ComparisonTable, Differences, row_places
from tui.widgets.greedy_splits import GreedySplits, SplitShown
from tui.widgets.key_bar import KeyBar
from tui.widgets.load_plots import LoadPlots
from tui.widgets.load_table import LoadTable
from tui.widgets.row_list import ListColumn, RowList
from tui.widgets.speed_and_loss import SpeedAndLoss
from tui.widgets.theme import method_style, titled
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison
    from sessions.verdict.splits import Split
    from tui.read.comparison_series import PickSeries

WIDE = 110
REFUSED = "These sessions differ in {}, so their numbers are not comparable. Press a to compare anyway."


class CompareScreen(ChosenTable):
    """Picks at the left, the comparison beside them; narrow screens show one of the two."""

    CSS_PATH = "compare.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "choose", "pick", id="compare.pick", tooltip="Show or hide the list of methods"),
        Binding("v", "figures", "figures", id="compare.figures", tooltip="The table of figures alone, or all again"),
        Binding("a", "anyway", "anyway", id="compare.anyway", tooltip="Compare even if settings differ"),
        more_binding("compare"),
        fidelity_binding("compare"),
        *TABLE_KEYS,
        Binding("b", "baseline", "baseline", id="compare.baseline", tooltip="Use the next method as the baseline"),
        Binding("slash", "filter", "filter", id="compare.filter", tooltip="Filter the list", key_display="/"),
        Binding("escape", "leave", "Back", show=False, id="compare.leave", tooltip="Leave the filter or the list"),
    ]

    picks = query_one("#picks", RowList)

    class Listing(Message):
        """What can be picked was read."""

        def __init__(self, picks: Sequence[Pick], whole: bool) -> None:
            super().__init__()
            self.picks, self.whole = picks, whole

    class Compared(Message):
        """A comparison was made, or the sentence that says why not, with the settings that forbid it."""

        def __init__(
            self,
            comparison: Comparison | None,
            problem: str = "",
            *,
            series: Sequence[PickSeries] = (),
            splits: Mapping[tuple[str, str], Split] | None = None,
            differences: Differences = (),
        ) -> None:
            super().__init__()
            self.comparison, self.problem, self.series = comparison, problem, series
            self.splits, self.differences = splits or {}, differences

    def __init__(self) -> None:
        super().__init__()
        self.baseline: str | None = None
        self.anyway = False
        self.refused = False
        self._all: Sequence[Pick] = ()
        self._wanted: tuple[list[str], str | None] | None = None
        self._first = True
        self._whole = True  # no others are awaited

    def compose(self) -> ComposeResult:
        yield Static("compare", id="head", markup=False)
        with Horizontal(id="halves"):
            with Vertical(id="choose"):
                yield Input(placeholder="/ to filter", id="pick-filter", compact=True)
                columns: list[ListColumn[Pick]] = [
                    ListColumn("method", 18, lambda pick: one_line(pick.method, 60), grow=1),
                    ListColumn("session", 11, lambda pick: (pick.when, "dim"), grow=1),
                ]
                yield RowList(columns, lambda pick: pick.key, markable=True, empty="Reading the sessions…", id="picks")
            with VerticalScroll(id="shown"):
                with titled(Vertical(id="answer-pane"), "answer"):
                    yield AnswerLines(id="answer")
                with titled(Vertical(id="pictures"), "plots"):
                    yield LoadTable(id="load-table")
                    yield LoadPlots(id="load-plots")
                    yield SpeedAndLoss(id="speed-and-loss")
                    yield ComparisonPlots(id="plots")
                with titled(Vertical(id="figures"), "figures"):
                    yield ComparisonTable(id="table")
                    yield GreedySplits(id="splits")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#shown").focus()
        self.add_class("nothing")
        self.query_one("#plots").display = False
        self.query_one("#speed-and-loss").display = False
        self.query_one("#load-plots").display = False
        self.query_one("#load-table").display = False
        self.table.show_comparison(None, NOTHING)
        self.take_kept_choice()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < WIDE, "narrow")

    def on_screen_resume(self) -> None:
        self.load()

    # What can be picked

    @work(thread=True, exclusive=True, group="list", exit_on_error=False, name="Reading the sessions")
    def load(self) -> None:
        for listing in listings(self.workbench.store):
            self.post_message(self.Listing(picks_of(listing.rows), listing.whole))
            if listing.problem:
                self.workbench.call_from_thread(self.workbench.notify, listing.problem, severity="warning")

    @on(Listing)
    def show_listing(self, event: Listing) -> None:
        self._all, self._whole = event.picks, event.whole
        self._show_filtered()
        if self._wanted is not None:
            sessions, method = self._wanted
            self._wanted = None
            self.pick(sessions, method)
        elif self._first and self._all:
            self.pick([self._all[0].session])
        self._first = False

    def pick(self, sessions: list[str], method: str | None = None) -> None:
        """Pick all methods of these sessions, or the one method of each."""
        keys = [p.key for name in sessions for p in self._all if p.session == name and method in (None, p.method)]
        listed = {pick.session for pick in self._all}
        if not keys or (not self._whole and not listed.issuperset(sessions)):
            self._wanted = (sessions, method)  # not listed yet: it is being read
            return
        self.picks.mark(keys)
        self.picks.move_to_key(keys[0])

    @on(Input.Changed, "#pick-filter")
    def filter_picks(self, event: Input.Changed) -> None:
        event.stop()
        self._show_filtered()

    @on(Input.Submitted, "#pick-filter")
    def filter_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.picks.focus()

    def _show_filtered(self) -> None:
        words = self.query_one("#pick-filter", Input).value.lower().split()
        found = [
            pick for pick in self._all if all(word in f"{pick.key} {pick.name} {pick.model}".lower() for word in words)
        ]
        self.picks.show_rows(found, "No session matches." if self._all else "There are no sessions yet.")

    def action_choose(self) -> None:
        self.toggle_class("choosing")
        (self.picks if self.has_class("choosing") else self.query_one("#shown")).focus()

    def action_filter(self) -> None:
        self.add_class("choosing")
        self.query_one("#pick-filter", Input).focus()

    def action_leave(self) -> None:
        if self.query_one("#pick-filter", Input).has_focus:
            self.picks.focus()
        elif self.has_class("choosing"):
            self.action_choose()

    @on(RowList.Chosen)
    def toggle_pick(self, event: RowList.Chosen) -> None:
        event.stop()
        self.picks.action_mark()

    # The comparison

    @on(RowList.Marked)
    def compare_marked(self, event: Message) -> None:
        event.stop()
        self._compare_now()

    def _compare_now(self) -> None:
        picked = [tuple(key.split(":", 1)) for key in self.picks.marked]
        if self.baseline not in {method for _, method in picked}:
            self.baseline = None
        if not picked:
            self.post_message(self.Compared(None, NOTHING))
            return
        self._compare([(session, method) for session, method in picked], self.baseline, self.anyway)

    @work(thread=True, exclusive=True, group="compare", exit_on_error=False, name="Comparing")
    def _compare(self, picked: list[tuple[str, str]], baseline: str | None, anyway: bool) -> None:
        from sessions.close.session_end import recover
        from sessions.verdict.comparison import COMPARED_FILES, ComparisonError, compare
        from sessions.verdict.comparison_row import ComparisonRow
        from sessions.verdict.splits import read_splits
        from tui.read.comparison_series import pick_series

        worker = get_current_worker()
        store = self.workbench.store
        try:
            store.fetch(dict.fromkeys(session for session, _ in picked), COMPARED_FILES)
            for session in dict.fromkeys(session for session, _ in picked):
                try:
                    recover(store.folder(session))
                except SessionError:
                    continue  # its row says what is wrong with it
            comparison = compare(store, picked, baseline, anyway=True)
            if worker.is_cancelled:
                return
            if comparison.refused and not anyway:
                said = REFUSED.format(", ".join(comparison.refused))
                self.post_message(self.Compared(None, said, differences=comparison.differences))
                return
            series = [
                pick_series(store, row.session, row.method)
                for row in comparison.rows
                if (not row.problem or row.blocks) and type(row) is ComparisonRow  # under load there are curves instead
            ]
            apart = dict.fromkeys(row.session for row in comparison.rows if row.first_difference is not None)
            splits = {(own, split.method): split for own in apart for split in read_splits(store.folder(own))}
        except (ComparisonError, SessionError) as error:
            if not worker.is_cancelled:
                self.post_message(self.Compared(None, str(error)))
            return
        if not worker.is_cancelled:
            self.post_message(self.Compared(comparison, series=series, splits=splits))

    @on(Compared)
    async def show_compared(self, event: Compared) -> None:
        self.comparison, self.problem = event.comparison, event.problem
        comparison = event.comparison
        self.refused = bool(event.differences)
        self.set_class(comparison is None, "nothing")
        self.query_one("#answer", AnswerLines).show_comparison(comparison)
        self.table.show_comparison(comparison, event.problem, event.differences)
        self._show_splits(comparison, event.splits)
        await self._show_load(comparison)
        self._show_loss(comparison)
        self.query_one("#plots").display = bool(event.series)
        said = "compare"
        if comparison is not None:
            sessions = len({row.session for row in comparison.rows})
            said = f"compare · {len(comparison.rows)} rows of {sessions} session{'s' if sessions > 1 else ''}"
            said += f" · baseline {self.baseline}" if self.baseline else ""
            said += " · NOT COMPARABLE, compared anyway" if comparison.refused else ""
        self.query_one("#head", Static).update(Content(said))
        if comparison is not None and event.series:
            self.query_one("#plots", ComparisonPlots).show_series(comparison.rows, event.series)
        self.refresh_bindings()

    def _show_splits(self, comparison: Comparison | None, splits: Mapping[tuple[str, str], Split]) -> None:
        rows = comparison.rows if comparison is not None else ()
        several = len({row.session for row in rows}) > 1
        self.query_one("#splits", GreedySplits).show_splits(
            [
                SplitShown(
                    f"{row.method} of {row.session}" if several else row.method,
                    method_style(place),
                    row.difference,
                    splits.get((row.session, row.method)),
                )
                for place, row in enumerate(rows)
                if row.first_difference is not None
            ]
        )

    async def _show_load(self, comparison: Comparison | None) -> None:
        from sessions.verdict.load_curves import load_curves

        rows = comparison.rows if comparison is not None else ()
        several, places = len({row.session for row in rows}) > 1, row_places(rows)
        self.query_one("#load-table", LoadTable).show_comparison(comparison)
        await self.query_one("#load-plots", LoadPlots).show_curves(
            load_curves(rows),
            lambda curve: one_line(curve.name(several), 40),
            lambda curve: places[(curve.session, curve.method)],
        )

    def _show_loss(self, comparison: Comparison | None) -> None:
        from sessions.verdict.speed_and_loss import trade_offs

        rows = comparison.rows if comparison is not None else ()
        several = len({row.session for row in rows}) > 1
        found = trade_offs(rows)
        drawn = [one.row for one in found.drawn] if found else []
        self.query_one("#speed-and-loss", SpeedAndLoss).show_trade_offs(
            found,
            [one_line(f"{row.method} {row.session[-6:]}" if several else row.method, 40) for row in drawn],
            [method_style(row_places(rows)[(row.session, row.method)]) for row in drawn],
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        if action == "more":
            return self.comparison is not None and bool(self.comparison.offers)
        if action == "fidelity":
            return self.comparison is not None and bool(self.comparison.unscored)
        return self.anyway or self.refused if action == "anyway" else True

    @work(exit_on_error=False, name="Adding rounds")
    async def action_more(self) -> None:
        """To the first session that needs some."""
        if self.comparison is not None and self.comparison.offers:
            await add_rounds(self.workbench, *next(iter(self.comparison.offers.items())))

    @work(exit_on_error=False, name="Adding fidelity")
    async def action_fidelity(self) -> None:
        """To the first session that lacks it."""
        if self.comparison is not None and self.comparison.unscored:
            await add_fidelity(self.workbench, self.comparison.unscored[0])

    def action_baseline(self) -> None:
        """The next selected method becomes the baseline; after the last, each method's own reference again."""
        if self.comparison is None:
            return
        names = list(dict.fromkeys(row.method for row in self.comparison.rows))
        place = names.index(self.baseline) + 1 if self.baseline in names else 0
        self.baseline = names[place] if place < len(names) else None
        self.workbench.notify(
            f"The baseline is {self.baseline}." if self.baseline else "Each method has its own reference again.",
            markup=False,
            timeout=3,
        )
        self._compare_now()

    def action_figures(self) -> None:
        self.toggle_class("figures")
        self.query_one("#shown", VerticalScroll).scroll_home(animate=False)

    def action_anyway(self) -> None:
        self.anyway = not self.anyway
        self._compare_now()

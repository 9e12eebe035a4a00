"""What a session does at this moment, how far that is, and what it does next."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len

from sessions.disk.plan import Plan, PlannedBlock
from sessions.watch.live import Live
from tui.read.session_watch import View
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.lane_lines import lane_lines
from tui.words import figures
from tui.words.block_steps import SHORT, STEPS
from tui.words.cells import cut, fit
from tui.words.terminal_text import plain

NOT_ALWAYS: Final = ("greedy", "fidelity")  # only in the block that does so
BAR: Final = 16
ENDS: Final = {"finished": "Session complete: enter opens it, 3 compares it."}


class NowLines(DrawnLines):
    """Two lines: the method and its request with its progress; the steps of its block, and the block after it.

    Where rounds run side by side, a line or half of one for each lane instead of the steps.
    """

    DEFAULT_CSS = """
    NowLines { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._view: View | None = None
        self._order: list[PlannedBlock] = []

    def show_view(self, view: View) -> None:
        if self._view is None or self._view.plan is not view.plan:
            self._order = view.plan.order()
        self._view = view
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        view = self._view
        if view is None:
            return []
        live, plan = view.live, view.plan
        if plan.lanes > 1:
            first = _between(view) if live.method is None else _request(live, plan, width)
            return [first, *lane_lines(live, plan, width)]
        if live.method is None:
            return [_between(view), []]
        return [_request(live, view.plan, width), _steps(live, self._order, width)]


def _between(view: View) -> list[Piece]:
    """While no block runs."""
    live = view.live
    if view.closing:
        return [("Writing the frames…", "accent")]
    if view.over:
        return [(ENDS.get(live.status, f"The session is {live.status}."), "accent")]
    return [(plain(live.notes[-1]), "warning")] if live.notes else []


def _request(live: Live, plan: Plan, width: int) -> list[Piece]:
    what = "warm-up" if live.warmup else f"request {live.request + 1}" if live.request is not None else ""
    what = what or dict(STEPS).get(live.block_phase, live.block_phase)
    line: list[Piece] = [(live.method or "", "accent"), (f" · {live.point}" if live.point else "", "strong")]
    line.append((f" · {what}", ""))
    if live.tokens:
        line.append((f" · {live.tokens} tokens · {figures.rate(live.tok_s_now)} tok/s", "dim"))
    room = width - sum(cell_len(text) for text, _ in line)
    most = plan.sampling.max_new_tokens
    if live.tokens and live.request is not None and not live.points and room > BAR + 2:
        filled, empty = figures.bar(live.tokens / most if most else None, BAR)
        line += [("  ", ""), (filled, "accent"), (empty, "dim")]
        room -= BAR + 2
    if live.notes and room > 8:
        line.append((cut(f" · ! {plain(live.notes[-1])}", room), "warning"))
    return line


def _steps(live: Live, order: list[PlannedBlock], width: int) -> list[Piece]:
    """The block's steps, those that are behind it with a tick; then the next block, where there is room."""
    names = [name for name, _ in STEPS if name not in NOT_ALWAYS or name == live.block_phase]
    at = names.index(live.block_phase) if live.block_phase in names else -1
    line: list[Piece] = []
    for place, name in enumerate(names):
        said = dict(STEPS)[name] if place == at else SHORT.get(name, name)
        style = "good" if place < at else "accent" if place == at else "dim"
        line.append((f"{'✓ ' if place < at else '→ ' if place == at else ''}{said}", style))
        if place + 1 < len(names):
            line.append((" ─ ", "dim"))
    room = width - sum(cell_len(text) for text, _ in line)
    coming = _next(live, order)
    if cell_len(coming) + 3 > room:  # the step that is taken says more than those around it
        line = [(text, style) for text, style in line if style == "accent"]
        room = width - sum(cell_len(text) for text, _ in line)
    return [*line, (fit(coming, room, right=True), "dim")] if cell_len(coming) + 3 <= room else line


def _next(live: Live, order: list[PlannedBlock]) -> str:
    """The block after the one that runs, in the plan's order without the methods that are decided."""
    decided = {row.name for row in live.methods if row.decided}
    places = [place for place, block in enumerate(order) if (block.method, block.block) == (live.method, live.block)]
    coming = [block for block in order[places[0] + 1 :] if block.method not in decided] if places else []
    return f"next: {coming[0].method}, block {coming[0].block + 1}" if coming else ""

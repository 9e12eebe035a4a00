"""The line above a session: what is running, its progress, and the time left."""

from __future__ import annotations

from rich.cells import cell_len

from sessions.disk.plan import Plan
from sessions.watch.live import Live
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.words.block_steps import STEPS
from tui.words.figures import time_left
from tui.words.terminal_text import plain

STATUS_STYLES = {"finished": "good", "stopped": "warning", "interrupted": "warning", "failed": "bad"}


class SessionLine(DrawnLines):
    """One line; the parts that matter least are dropped first where the terminal is narrow."""

    DEFAULT_CSS = """
    SessionLine { height: 1; background: $panel; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._live: Live | None = None
        self._plan: Plan | None = None
        self._mode = ""
        self._saving = False

    @property
    def live(self) -> Live | None:
        """The state that is shown, None before there is one."""
        return self._live

    def show_live(self, live: Live, plan: Plan, mode: str = "", closing: bool = False) -> None:
        """Show a session at a moment. `mode` (a replay's speed) is said first; `closing`: frames are being written."""
        self._live, self._plan, self._mode, self._saving = live, plan, mode, closing
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        live, plan = self._live, self._plan
        if live is None or plan is None:
            return [[("kasoku", "title")]]
        end, style = self._end(live)
        parts = [part for part in (self._mode, plan.preset, plain(plan.model), *self._progress(live, plan)) if part]
        room = width - cell_len(end) - 2
        # The progress says more than the names before it.
        while len(parts) > 1 and cell_len(" · ".join(parts)) > room:
            parts.pop(0)
        text = " · ".join(parts)
        return [[(text, "title"), (" " * max(1, width - cell_len(text) - cell_len(end)), ""), (end, style)]]

    def _progress(self, live: Live, plan: Plan) -> list[str]:
        if live.method is None or live.block is None:
            return [] if live.status != "preparing" else ["preparing"]
        names = [method.name for method in plan.methods]
        place = names.index(live.method) + 1 if live.method in names else 0
        row = next((row for row in live.methods if row.name == live.method), None)
        blocks = row.blocks if row is not None else None
        parts = [f"method {place}/{len(names)}", f"block {live.block + 1}"]
        points = [point.name for point in plan.points]
        if blocks is not None:
            parts[1] += f"/{blocks}"
        if live.request is None or live.block_phase not in ("warmup", "timed"):
            parts.append(dict(STEPS).get(live.block_phase, live.block_phase))
        elif live.warmup:
            parts.append("warm-up")
        elif live.point in points:
            parts.append(f"point {points.index(live.point) + 1}/{len(points)}")
        else:
            parts.append(f"request {live.request + 1}" + (f"/{plan.requests_in(blocks)}" if blocks is not None else ""))
        return parts

    def _end(self, live: Live) -> tuple[str, str]:
        if self._saving:
            return "saving", "accent"
        if live.status not in ("preparing", "running"):
            return live.status, STATUS_STYLES.get(live.status, "")
        if left := time_left(live.left_s, live.left_most_s):
            return f"{left} left", "accent"
        return (_started(live) if live.position else live.status), "dim"


def _started(live: Live) -> str:
    return f"{live.position}/{live.of} blocks started" if live.of else f"block {live.position}"

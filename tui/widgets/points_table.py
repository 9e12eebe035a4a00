"""The points of a load as they are measured: a line for each, a column for each method."""

from __future__ import annotations

from rich.cells import cell_len

from sessions.watch.live import Live, PointLive
from tui.widgets.drawn_lines import Piece
from tui.widgets.live_lines import LiveLines
from tui.widgets.methods_table import RUNNING, STATE_MARKS
from tui.words import figures
from tui.words.cells import cut, fit
from tui.words.terminal_text import plain

POINT_MOST = 22
COLUMN_LEAST = 15


class PointsTable(LiveLines):
    """Throughput by point and method, each with its interval once there are three blocks. Methods that the width does
    not hold follow below."""

    def lines_of(self, live: Live, width: int) -> int:
        """How many lines it takes."""
        return len(self._table(live, width))

    def draw(self, width: int) -> list[list[Piece]]:
        return self._table(self.live, width) if self.live is not None else []

    def _table(self, live: Live, width: int) -> list[list[Piece]]:
        if not live.points:
            return []
        methods = list(dict.fromkeys(row.method for row in live.points))
        points = list(dict.fromkeys(row.point for row in live.points))
        found = {(row.point, row.method): row for row in live.points}
        room = min(POINT_MOST, max(map(cell_len, [*points, "tok/s"])))
        across = max(1, (width - room) // (COLUMN_LEAST + 2))
        groups = -(-len(methods) // across)
        across = -(-len(methods) // groups)
        column = min(26, (width - room) // across - 2)
        lines: list[list[Piece]] = []
        for first in range(0, len(methods), across):
            shown = methods[first : first + across]
            lines.append([(fit("tok/s", room), "dim"), *self._heads(live, shown, column)])
            for point in points:
                style = "strong" if point == live.point else ""
                line: list[Piece] = [(fit(point, room), style)]
                for method in shown:
                    line += _cell(found[point, method], live.tok_s_now, column)
                lines.append(line)
        return lines

    @staticmethod
    def _heads(live: Live, shown: list[str], column: int) -> list[Piece]:
        heads: list[Piece] = []
        rows = {row.name: row for row in live.methods}
        for name in shown:
            row = rows.get(name)
            wrong = row is not None and row.in_effect is False
            text = f"{name}{' NOT IN EFFECT' if wrong else ''}"
            heads += [("  ", ""), (fit(cut(text, column), column, right=True), "bad" if wrong else "dim")]
        return heads


def _cell(row: PointLive, now: float | None, column: int) -> list[Piece]:
    """What is known of a point: its throughput, how it failed, or that it runs and at which rate."""
    if row.status == "running":
        mark, style = RUNNING
        rate = figures.rate(now) if now is not None else figures.rate(row.tok_s_total)
        return [("  ", ""), (fit(f"{mark} {rate}", column, right=True), style)]
    if row.tok_s_total is not None:
        text = figures.rate_with_half_width(row.tok_s_total, row.interval.half_width if row.interval else None)
        return [("  ", ""), (fit(text, column, right=True), "")]
    mark, style = STATE_MARKS.get(row.status, ("·", "dim"))
    word = "" if row.status == "waiting" else f" {plain(row.status)}"
    return [("  ", ""), (fit(f"{mark}{word}", column, right=True), style)]

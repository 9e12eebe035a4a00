"""The methods of a session as they race."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len

from sessions.watch.live import MethodLive
from tui.widgets.drawn_lines import Piece
from tui.widgets.live_lines import LiveLines
from tui.widgets.race_bar import race_axis, race_bar, scale_of
from tui.widgets.theme import method_style
from tui.words import figures
from tui.words.cells import fit
from tui.words.terminal_text import plain

STATE_MARKS = {
    "ok": ("✓", "good"),
    "waiting": ("·", "dim"),
    "failed": ("✗", "bad"),
    "oom": ("✗", "bad"),
    "stalled": ("✗", "bad"),
    "stopped": ("■", "warning"),
    "unavailable": ("–", "dim"),
}
RUNNING = ("▶", "accent")
NAME_MOST, NAME_LEAST = 28, 14
BAR_LEAST, WORDS_LEAST, WORDS_MOST = 10, 14, 30


@dataclass(frozen=True, slots=True)
class LiveColumn:
    title: str
    width: int
    need: int  # the smallest width of the table at which the column is there
    text: Callable[[MethodLive], str]
    on: str = ""  # "gpu" or "cpu": only in sessions there


def requests_done(row: MethodLive) -> str:
    """Of how many, unless there are as many as it takes."""
    return str(row.requests_done) if row.blocks is None else f"{row.requests_done}/{row.requests}"


def mean_rate(row: MethodLive) -> str:
    interval = row.tok_s_interval
    return figures.rate_with_half_width(row.tok_s_mean, interval.half_width if interval else None)


COLUMNS = (
    LiveColumn("tok/s now", 9, 104, lambda row: figures.rate(row.tok_s_now)),
    LiveColumn("mean ±95 %", 14, 0, mean_rate),
    LiveColumn("× ref", 5, 0, lambda row: figures.ratio(row.ratio)),
    LiveColumn("TTFT", 7, 96, lambda row: figures.duration(row.ttft_s)),
    LiveColumn("VRAM", 8, 116, lambda row: figures.size(row.peak_vram_bytes), on="gpu"),
    LiveColumn("RSS", 8, 150, lambda row: figures.size(row.peak_rss_bytes), on="gpu"),
    LiveColumn("RSS", 8, 116, lambda row: figures.size(row.peak_rss_bytes), on="cpu"),
    LiveColumn("J/tok", 6, 128, lambda row: figures.joules_per_token(row.energy_j_per_token), on="gpu"),
    LiveColumn("load", 6, 165, lambda row: figures.duration(row.load_s)),
    LiveColumn("requests", 9, 140, requests_done),
)


class MethodsTable(LiveLines):
    """The race: a row per method with its bar, its figures, and whether it was in effect.

    Narrow screens drop the least important columns.
    """

    def draw(self, width: int) -> list[list[Piece]]:
        rows = self.live.methods if self.live else ()
        at_work = self.live.at_work if self.live else frozenset()
        device = "gpu" if self.live is not None and self.live.gpus else "cpu"
        columns = [column for column in COLUMNS if width >= column.need and column.on in ("", device)]
        longest = max([cell_len(row.name) for row in rows] + [NAME_LEAST])
        fixed = 2 + sum(column.width + 2 for column in columns)
        name_width = max(NAME_LEAST, min(NAME_MOST, longest, width - fixed - BAR_LEAST - WORDS_LEAST - 4))
        left = max(0, width - fixed - name_width - 4)
        words_width = max(WORDS_LEAST, min(WORDS_MOST, left // 3))
        bar_width = max(0, left - words_width)
        top = scale_of(rows)
        head: list[Piece] = [("  " + fit("method", name_width), "dim"), ("  " + race_axis(top, bar_width), "dim")]
        head += [("  " + column.title.rjust(column.width), "dim") for column in columns]
        lines = [[*head, ("  in effect", "dim")]]
        for place, row in enumerate(rows):
            runs, style = row.name in at_work, method_style(place)
            mark, mark_style = RUNNING if runs else STATE_MARKS.get(row.state, ("·", "dim"))
            bar = race_bar(row.tok_s_mean, row.tok_s_interval, top, bar_width, style)
            line: list[Piece] = [(mark + " ", mark_style), (fit(row.name, name_width), style), ("  ", ""), *bar]
            for column in columns:
                text = column.text(row)
                line.append(("  " + text.rjust(column.width), "dim" if text == figures.UNKNOWN else ""))
            words, style = _in_effect(row, runs)
            lines.append([*line, ("  " + fit(words, words_width).rstrip(), style)])
        return lines


def _in_effect(row: MethodLive, runs: bool) -> tuple[str, str]:
    """The last column: whether the method was in effect and, until that is known, its state."""
    if row.error and row.state in ("failed", "oom", "stalled", "unavailable"):
        return f"{row.state}: {plain(row.error)}", "bad" if row.state != "unavailable" else "dim"
    if row.in_effect is False:
        return f"NO: {plain(row.reason)}" if row.reason else "NO", "bad"
    if row.in_effect is True:
        return _verdict(row), "good"
    if runs:
        return {"timed": "checking", "warmup": "warming up"}.get(row.state, row.state), "accent"
    return (row.state if row.state != "ok" else figures.UNKNOWN), "dim"


def _verdict(row: MethodLive) -> str:
    """In effect, and what is known by now."""
    if row.verdict in ("faster", "slower", "alike"):
        return f"yes · {row.verdict}"
    return "yes · decided" if row.decided else "yes"

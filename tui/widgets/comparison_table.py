"""Methods side by side: a column each where the screen is wide, one below the other where it is narrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.live_text import wrap
from tui.widgets.plot import series_style
from tui.words import figures
from tui.words.cells import cut, fit, unparted
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison, ComparisonRow

LABEL_WIDTH = 15
NOT_COMPARABLE = "NOT COMPARABLE: these sessions differ in {}. They are shown because a was pressed."
COLUMN_LEAST, COLUMN_MOST = 22, 36
Line = tuple[str, "Callable[[ComparisonRow], Piece]"]
Differences = Sequence[tuple[str, Mapping[str, Any]]]


class ComparisonTable(DrawnLines):
    """Every figure of every row; what differs in the sessions' settings is marked."""

    DEFAULT_CSS = """
    ComparisonTable { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._comparison: Comparison | None = None
        self._message = ""
        self._differences: Differences = ()

    def show_comparison(self, comparison: Comparison | None, message: str = "", differences: Differences = ()) -> None:
        """Show these rows, or where there are none the message, with the settings that are the reason for it."""
        self._comparison, self._message, self._differences = comparison, message, differences
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        comparison = self._comparison
        if comparison is None or not comparison.rows:
            style = "warning" if self._differences else "dim"
            said = [[(line, style)] for line in wrap("", self._message, width)] if self._message else []
            return [*said, [], *_settings(self._differences, (), width)] if self._differences else said
        rows = comparison.rows
        several = len({row.session for row in rows}) > 1
        figures_shown = [line for line in LINES if any(line[1](row)[0] != figures.UNKNOWN for row in rows)]
        across = max(1, (width - LABEL_WIDTH) // (COLUMN_LEAST + 2))
        groups = -(-len(rows) // across)
        across = -(-len(rows) // groups)  # groups of one size, rather than one row left over
        lines: list[list[Piece]] = []
        if comparison.refused:
            lines += [[(line, "bad")] for line in wrap("", NOT_COMPARABLE.format(", ".join(comparison.refused)), width)]
        for first in range(0, len(rows), across):
            shown = rows[first : first + across]
            column = min(COLUMN_MOST, (width - LABEL_WIDTH) // len(shown) - 2)
            column = max(COLUMN_LEAST, column)
            if lines:
                lines.append([])
            lines += self._group(shown, first, figures_shown, column, several)
        below = _settings(comparison.differences, comparison.refused, width)
        below += [
            [(line, "bad")] for problem in comparison.problems for line in wrap("", one_line(problem, 400), width)
        ]
        below += [
            [(line, "dim")]
            for said in (*comparison.noise_floors, *comparison.observer_effects)
            for line in wrap("", one_line(said, 300), width)
        ]
        return [*lines, [], *below] if below else lines

    def _group(
        self, rows: tuple[ComparisonRow, ...], first: int, shown: list[Line], column: int, several: bool
    ) -> list[list[Piece]]:
        head: list[Piece] = [(" " * LABEL_WIDTH, "")]
        for place, row in enumerate(rows):
            head.append((fit("● " + one_line(row.method, 60), column) + "  ", series_style(first + place)))
        lines = [head]
        if several:
            sessions: list[Piece] = [(fit("session", LABEL_WIDTH), "dim")]
            sessions += [(fit(one_line(row.session, 60), column) + "  ", "dim") for row in rows]
            lines.append(sessions)
        for label, text in shown:
            line: list[Piece] = [(fit(label, LABEL_WIDTH), "dim")]
            for row in rows:
                words, style = text(row)
                line.append((fit(words, column) + "  ", style))
            lines.append(line)
            if label == BEFORE_THE_VERDICT:
                lines += _long("verdict", [row.verdict for row in rows], "accent", column)
        for label, words_of, style in LONG_LINES:
            lines += _long(label, [words_of(row) for row in rows], style, column)
        return lines


def _settings(differences: Differences, refused: Sequence[str], width: int) -> list[list[Piece]]:
    """A line for each setting in which the sessions differ."""
    lines: list[list[Piece]] = []
    for name, values in differences:
        shown = ", ".join(f"{session}: {one_line(str(value), 60)}" for session, value in values.items())
        label = "NOT COMPARABLE, differs" if name in refused else "differs"
        lines += [[(line, "warning")] for line in wrap("", f"≠ {label} in {name}: {shown}", width)]
    return lines


def _long(label: str, texts: list[str], style: str, column: int) -> list[list[Piece]]:
    """Sentences wrapped within their columns; nothing where none has any."""
    if not any(texts):
        return []
    wrapped = [wrap("", unparted(one_line(text, 400)), column) if text else [] for text in texts]
    lines: list[list[Piece]] = []
    for number in range(max(map(len, wrapped))):
        line: list[Piece] = [(fit(label if number == 0 else "", LABEL_WIDTH), "dim")]
        line += [
            (fit(cut(words[number], column) if number < len(words) else "", column) + "  ", style) for words in wrapped
        ]
        lines.append(line)
    return lines


def _plain(text: str) -> Piece:
    return (text, "dim" if text == figures.UNKNOWN else "")


def _rate(row: ComparisonRow) -> Piece:
    if row.tok_s_mean is None:
        return (row.status or figures.UNKNOWN, "bad" if row.problem else "dim")
    if row.tok_s_low is None or row.tok_s_high is None:
        return (figures.rate(row.tok_s_mean), "strong")
    return (f"{figures.rate(row.tok_s_mean)} ±{figures.rate((row.tok_s_high - row.tok_s_low) / 2)}", "strong")


def _ratio(row: ComparisonRow) -> Piece:
    if row.ratio is None:
        return _plain(figures.UNKNOWN)
    if row.ratio_low is None or row.ratio_high is None:
        return _plain(f"{row.ratio:.2f}")
    return _plain(f"{row.ratio:.2f} ({row.ratio_low:.2f}–{row.ratio_high:.2f})")


def _reference(row: ComparisonRow) -> Piece:
    named = row.reference if row.reference and row.reference != row.method else None
    return _plain(one_line(named, 60) if named else figures.UNKNOWN)


def _effect(row: ComparisonRow) -> Piece:
    text = figures.yes_no(row.in_effect)
    return (text, {True: "good", False: "bad", None: "dim"}[row.in_effect])


def _first_difference(row: ComparisonRow) -> Piece:
    """The token at which the greedy text leaves its reference's."""
    if row.first_difference is not None:
        share = "" if row.equal_tokens_share is None else f", {row.equal_tokens_share * 100:.0f} % equal"
        return (f"token {row.first_difference}{share}", "warning")
    return _plain("none" if row.equal_tokens_share == 1 else figures.UNKNOWN)


def _share(value: float | None) -> str:
    return figures.UNKNOWN if value is None else f"{value * 100:.0f} %"


def _floor(row: ComparisonRow) -> Piece:
    from sessions.verdict.verdicts import percent

    return _plain(figures.UNKNOWN if row.noise_floor is None else percent(row.noise_floor))


BEFORE_THE_VERDICT = "in effect"


def _of_bandwidth(row: ComparisonRow) -> str:
    """The share worked out from bytes and tokens/s, and what the GPU's own counters say of its DRAM where they do."""
    dram = row.dram_active_percent
    return _share(row.mbu) + ("" if dram is None else f" · DRAM {figures.percent(dram)}")


LINES: tuple[Line, ...] = (
    ("tok/s ±95 %", _rate),
    ("× reference", _ratio),
    ("reference", _reference),
    ("in effect", _effect),
    ("median", lambda row: _plain(figures.rate(row.tok_s_median))),
    ("sd", lambda row: _plain(figures.rate(row.tok_s_sd))),
    ("decode tok/s", lambda row: _plain(figures.rate(row.decode_tok_s_median))),
    ("TTFT median", lambda row: _plain(figures.duration(row.ttft_s_median))),
    ("ITL p50", lambda row: _plain(figures.duration(row.itl_s_p50))),
    ("ITL p99", lambda row: _plain(figures.duration(row.itl_s_p99))),
    ("VRAM peak", lambda row: _plain(figures.size(row.peak_vram_bytes))),
    ("RSS peak", lambda row: _plain(figures.size(row.peak_rss_bytes))),
    ("J/token", lambda row: _plain(figures.joules_per_token(row.energy_j_per_token))),
    ("of bandwidth", lambda row: _plain(_of_bandwidth(row))),
    ("load", lambda row: _plain(figures.duration(row.load_s_median))),
    ("warm-up", lambda row: _plain(figures.duration(row.warmup_s_median))),
    ("requests", lambda row: _plain(f"{row.requests} in {row.blocks} blocks")),
    ("1st difference", _first_difference),
    ("noise floor", _floor),
)
LONG_LINES: tuple[tuple[str, Callable[[ComparisonRow], str], str], ...] = (
    ("evidence", lambda row: row.in_effect_reason, "dim"),
    ("flags", lambda row: "; ".join(row.flags), "warning"),
    ("problem", lambda row: row.problem, "bad"),
)

"""The plots of a comparison: rates as a distribution and request by request, and memory and power over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container

from tui.widgets.distribution import Distribution, NamedValues
from tui.widgets.plot import Plot, Series
from tui.widgets.theme import method_style
from tui.words import figures
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.verdict.comparison_row import ComparisonRow
    from tui.read.comparison_series import PickSeries


class ComparisonPlots(Container):
    """Four plots that share the rows' names and styles."""

    def compose(self) -> ComposeResult:
        yield Distribution("tokens/s of each request", "tok/s", id="distribution")
        yield Plot("tokens/s, request by request", "request", figures.rate, from_zero=False, id="over-time")
        yield Plot("memory", "s", figures.size, id="memory")
        yield Plot("power", "s", lambda value: f"{value:.0f}", id="power")

    def show_series(self, rows: Sequence[ComparisonRow], series: Sequence[PickSeries]) -> None:
        """Draw each series in the style of its row's place."""
        from tui.read.comparison_series import longest

        several = len({row.session for row in rows}) > 1
        styles = {(row.session, row.method): method_style(place) for place, row in enumerate(rows)}
        names = {
            (one.session, one.method): one_line(f"{one.method} {one.session[-6:]}" if several else one.method, 40)
            for one in series
        }
        keys = [(one.session, one.method) for one in series]
        self.query_one("#distribution", Distribution).show_samples(
            [NamedValues(names[key], one.tok_s, styles[key]) for key, one in zip(keys, series, strict=True)]
        )
        self.query_one("#over-time", Plot).show_series(
            [
                Series(names[key], list(range(1, len(one.tok_s) + 1)), one.tok_s, styles[key])
                for key, one in zip(keys, series, strict=True)
            ]
        )
        on_gpu = any(one.on_gpu for one in series)
        axis = longest([curve for one in series for curve in (one.memory, one.power)])
        memory = "VRAM in the last block" if on_gpu else "RSS in the last block"
        power = "GPU power, W" if on_gpu else "process CPU, % of one core"
        for name, title, curves in (
            ("memory", memory, [one.memory for one in series]),
            ("power", power, [one.power for one in series]),
        ):
            self.query_one(f"#{name}", Plot).show_series(
                [
                    Series(names[key], curve.seconds, curve.values, styles[key])
                    for key, curve in zip(keys, curves, strict=True)
                ],
                title=title,
                x_range=axis,
                reason=f"No {name} readings in these blocks.",
            )

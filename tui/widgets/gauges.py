"""Gauges of the GPUs in use and of the host."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len

from probes.gpu.throttle import slows, throttle_words
from sessions.watch.live import Live
from tui.widgets.braille_canvas import Canvas
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.readings import MANY, Readings, gpu_line, gpu_lines, share, together, watts
from tui.words import figures
from tui.words.cells import cut
from tui.words.terminal_text import plain

LABEL_WIDTH = 6
VALUE_WIDTH = 14
CURVE_WIDTH_MOST = 40
BLOCK_WIDTH = 34


class Gauges(DrawnLines):
    """A block of bars for each GPU in use and one for the CPU, side by side where there is room.

    `compact` is one line a device, for small terminals; `curve_height` is that of the power and CPU curves.
    """

    DEFAULT_CSS = """
    Gauges { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._live: Live | None = None
        self._names: Mapping[str, str] = {}
        self.compact = False
        self.curve_height = 1

    def show_live(self, live: Live, names: Mapping[str, str]) -> None:
        """Show a session's newest readings; `names` are the GPUs' by telemetry source."""
        self._live, self._names = live, names
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        live = self._live
        if live is None:
            return []
        if self.compact:
            return [*gpu_lines(live, width), self._host_line(live, width)]
        small = len(live.gpus) > MANY and width < 2 * BLOCK_WIDTH
        blocks = [*(live.gpus if not small else ()), "host"]
        across = max(1, min(len(blocks), width // BLOCK_WIDTH))
        column = (width - 2 * (across - 1)) // across
        lines: list[list[Piece]] = [] if len(live.gpus) <= 2 else [together(live, width)]
        if small:
            lines += [gpu_line(live, gpu, width) for gpu in live.gpus]
        for first in range(0, len(blocks), across):
            drawn = [
                self._host(live, column) if source == "host" else self._gpu(live, source, column)
                for source in blocks[first : first + across]
            ]
            if lines:
                lines.append([])
            for row in range(max(map(len, drawn))):
                line: list[Piece] = []
                for place, block in enumerate(drawn):
                    pieces = block[row] if row < len(block) else []
                    line += pieces
                    if place + 1 < len(drawn):
                        line.append((" " * (column + 2 - sum(cell_len(text) for text, _ in pieces)), ""))
                lines.append(line)
        return lines

    # A GPU

    def _gpu(self, live: Live, source: str, width: int) -> list[list[Piece]]:
        read = Readings(live.gauges, source)
        name = plain(self._names.get(source, ""))
        title = cut(f"GPU {source.removeprefix('gpu')}  {name}".rstrip(), width)
        if read.unreadable:
            return [[(title, "title")], [(cut(read.unreadable, width), "bad")]]
        used, total = read("memory_used_bytes"), read("memory_total_bytes")
        power, limit = read("power_w"), read("power_limit_w")
        return [
            [(title, "title")],
            _bar("util", share(read("utilisation_percent"), 100), figures.percent(read("utilisation_percent")), width),
            _bar("VRAM", share(used, total), figures.of_total(used, total), width),
            _bar("power", share(power, limit), watts(power, limit), width),
            self._clock(read, width),
            *self._curve(read.history("power_w"), width, limit, "W"),
        ]

    def _curve(self, values: tuple[float, ...], width: int, top: float | None, unit: str) -> list[list[Piece]]:
        """The recent past from zero to the most there can be, which is said at its right."""
        if self.curve_height < 2 or len(values) < 2 or (self._live is not None and len(self._live.gpus) > MANY):
            return []
        highest = top or max(values)
        labels = [f" {highest:.0f} {unit}", *[""] * (self.curve_height - 2), " 0"]
        columns = max(4, min(width - VALUE_WIDTH, CURVE_WIDTH_MOST))
        canvas = Canvas(columns, self.curve_height, (0.0, len(values) - 1.0), (0.0, highest or 1.0))
        canvas.draw(range(len(values)), values, "bar")
        return [[*canvas.line(row), (label, "dim")] for row, label in enumerate(labels)]

    def _clock(self, read: Readings, width: int) -> list[Piece]:
        clock, heat, mask = read("sm_clock_mhz"), read("temperature_c"), read("throttle_reasons")
        parts = [f"SM {clock:.0f} MHz" if clock is not None else "", f"{heat:.0f} °C" if heat is not None else ""]
        text = " · ".join(part for part in parts if part)
        if mask is not None and slows(mask):
            said = " · ".join([text, *throttle_words(mask)])
            return [(cut(said, width), "warning")]
        return [(cut(text, width), "dim")]

    # The host

    def _host(self, live: Live, width: int) -> list[list[Piece]]:
        host, runner = Readings(live.gauges, "host"), Readings(live.gauges, "runner")
        cpu, used, total = host("cpu_percent"), host("ram_used_bytes"), host("ram_total_bytes")
        load, clock = host("load_1m"), host("cpu_mhz")
        if host.unreadable:
            return [[("CPU", "title")], [(cut(host.unreadable, width), "bad")]]
        said = " · ".join(
            part
            for part in (
                f"load {load:.1f}" if load is not None else "",
                f"{clock:.0f} MHz" if clock is not None else "",
            )
            if part
        )
        return [
            [("CPU", "title")],
            _bar("CPU", share(cpu, 100), figures.percent(cpu), width),
            _bar("RAM", share(used, total), figures.of_total(used, total), width),
            _bar("RSS", share(runner("rss_bytes"), total), figures.size(runner("rss_bytes")), width),
            [(cut(said, width), "dim")],
            *self._curve(host.history("cpu_percent"), width, 100, "%"),
        ]

    def _host_line(self, live: Live, width: int) -> list[Piece]:
        host, runner = Readings(live.gauges, "host"), Readings(live.gauges, "runner")
        filled, empty = figures.bar(share(host("cpu_percent"), 100), 8)
        text = (
            f"{figures.percent(host('cpu_percent')).rjust(6)} · RSS {figures.size(runner('rss_bytes'))}"
            f" · RAM {figures.of_total(host('ram_used_bytes'), host('ram_total_bytes'))}"
        )
        return [("CPU   ", "title"), (filled, "bar"), (empty, "dim"), (cut(text, width - 14), "")]


def _bar(label: str, share: float | None, value: str, width: int) -> list[Piece]:
    room = max(4, width - LABEL_WIDTH - VALUE_WIDTH - 1)
    filled, empty = figures.bar(share, room)
    return [(label.ljust(LABEL_WIDTH), "dim"), (filled, "bar"), (empty, "dim"), (f" {value}", "")]

"""Gauges of the GPUs in use and of the host."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len

from probes.gpu.throttle import slows, throttle_words
from sessions.watch.live import Gauge, Live
from tui.widgets.braille_canvas import Canvas
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.words import figures
from tui.words.cells import cut
from tui.words.terminal_text import plain

LABEL_WIDTH = 6
VALUE_WIDTH = 14
CURVE_WIDTH_MOST = 40
FAST_METRICS = ("utilisation_percent", "memory_used_bytes", "power_w", "sm_clock_mhz", "cpu_percent", "ram_used_bytes")


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
            return [self._gpu_line(live, gpu, width) for gpu in live.gpus] + [self._host_line(live, width)]
        blocks = [*(live.gpus), "host"]
        across = max(1, min(len(blocks), width // 34))
        column = (width - 2 * (across - 1)) // across
        lines: list[list[Piece]] = []
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
        read = _Readings(live.gauges, source)
        name = plain(self._names.get(source, ""))
        title = cut(f"GPU {source.removeprefix('gpu')}  {name}".rstrip(), width)
        if read.unreadable:
            return [[(title, "title")], [(cut(read.unreadable, width), "bad")]]
        used, total = read("memory_used_bytes"), read("memory_total_bytes")
        power, limit = read("power_w"), read("power_limit_w")
        return [
            [(title, "title")],
            _bar("util", _share(read("utilisation_percent"), 100), figures.percent(read("utilisation_percent")), width),
            _bar("VRAM", _share(used, total), figures.of_total(used, total), width),
            _bar("power", _share(power, limit), _watts(power, limit), width),
            self._clock(read, width),
            *self._curve(read.history("power_w"), width, limit, "W"),
        ]

    def _curve(self, values: tuple[float, ...], width: int, top: float | None, unit: str) -> list[list[Piece]]:
        """The recent past from zero to the most there can be, which is said at its right."""
        if self.curve_height < 2 or len(values) < 2:
            return []
        highest = top or max(values)
        labels = [f" {highest:.0f} {unit}", *[""] * (self.curve_height - 2), " 0"]
        columns = max(4, min(width - VALUE_WIDTH, CURVE_WIDTH_MOST))
        canvas = Canvas(columns, self.curve_height, (0.0, len(values) - 1.0), (0.0, highest or 1.0))
        canvas.draw(range(len(values)), values, "bar")
        return [[*canvas.line(row), (label, "dim")] for row, label in enumerate(labels)]

    def _clock(self, read: _Readings, width: int) -> list[Piece]:
        clock, heat, mask = read("sm_clock_mhz"), read("temperature_c"), read("throttle_reasons")
        parts = [f"SM {clock:.0f} MHz" if clock is not None else "", f"{heat:.0f} °C" if heat is not None else ""]
        text = " · ".join(part for part in parts if part)
        if mask is not None and slows(mask):
            said = " · ".join([text, *throttle_words(mask)])
            return [(cut(said, width), "warning")]
        return [(cut(text, width), "dim")]

    def _gpu_line(self, live: Live, source: str, width: int) -> list[Piece]:
        read = _Readings(live.gauges, source)
        head = f"GPU {source.removeprefix('gpu')} "
        if read.unreadable:
            return [(head, "title"), (cut(read.unreadable, width - len(head)), "bad")]
        filled, empty = figures.bar(_share(read("utilisation_percent"), 100), 8)
        clock, heat, mask = read("sm_clock_mhz"), read("temperature_c"), read("throttle_reasons")
        held = " · ".join(throttle_words(mask)) if mask is not None and slows(mask) else ""
        parts = [
            figures.percent(read("utilisation_percent")).rjust(5),
            figures.of_total(read("memory_used_bytes"), read("memory_total_bytes")),
            _watts(read("power_w"), read("power_limit_w")),
            f"{clock:.0f} MHz" if clock is not None else "",
            f"{heat:.0f} °C" if heat is not None else "",
        ]
        text = " · ".join(part for part in parts if part)
        room = width - len(head) - 8
        line: list[Piece] = [(head, "title"), (filled, "bar"), (empty, "dim"), (cut(" " + text, room), "")]
        left = room - cell_len(text) - 1
        return [*line, (cut(" " + held, left), "warning")] if held and left > 4 else line

    # The host

    def _host(self, live: Live, width: int) -> list[list[Piece]]:
        host, runner = _Readings(live.gauges, "host"), _Readings(live.gauges, "runner")
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
            _bar("CPU", _share(cpu, 100), figures.percent(cpu), width),
            _bar("RAM", _share(used, total), figures.of_total(used, total), width),
            _bar("RSS", _share(runner("rss_bytes"), total), figures.size(runner("rss_bytes")), width),
            [(cut(said, width), "dim")],
            *self._curve(host.history("cpu_percent"), width, 100, "%"),
        ]

    def _host_line(self, live: Live, width: int) -> list[Piece]:
        host, runner = _Readings(live.gauges, "host"), _Readings(live.gauges, "runner")
        filled, empty = figures.bar(_share(host("cpu_percent"), 100), 8)
        text = (
            f"{figures.percent(host('cpu_percent')).rjust(6)} · RSS {figures.size(runner('rss_bytes'))}"
            f" · RAM {figures.of_total(host('ram_used_bytes'), host('ram_total_bytes'))}"
        )
        return [("CPU   ", "title"), (filled, "bar"), (empty, "dim"), (cut(text, width - 14), "")]


class _Readings:
    """The gauges of one source."""

    def __init__(self, gauges: Mapping[tuple[str, str], Gauge], source: str) -> None:
        self._gauges = gauges
        self._source = source

    def __call__(self, metric: str) -> float | None:
        gauge = self._gauges.get((self._source, metric))
        return gauge.value if gauge else None

    def history(self, metric: str) -> tuple[float, ...]:
        gauge = self._gauges.get((self._source, metric))
        return gauge.history if gauge else ()

    @property
    def unreadable(self) -> str:
        """The reason if none of the 10 Hz readings worked (a GPU that fell off the bus), otherwise empty.

        What is read at 1 Hz, the temperature for one, may still stand there with its last value.
        """
        own = [gauge for name in FAST_METRICS if (gauge := self._gauges.get((self._source, name))) is not None]
        if not own or any(gauge.value is not None for gauge in own):
            return ""
        return plain(own[0].status)


def _bar(label: str, share: float | None, value: str, width: int) -> list[Piece]:
    room = max(4, width - LABEL_WIDTH - VALUE_WIDTH - 1)
    filled, empty = figures.bar(share, room)
    return [(label.ljust(LABEL_WIDTH), "dim"), (filled, "bar"), (empty, "dim"), (f" {value}", "")]


def _share(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None


def _watts(power: float | None, limit: float | None) -> str:
    if power is None:
        return figures.UNKNOWN
    return f"{power:.0f} W" if limit is None else f"{power:.0f}/{limit:.0f} W"

"""What a source of telemetry reads now, and what a line of gauges says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from probes.gpu.throttle import slows, throttle_words
from tui.widgets.drawn_lines import Piece
from tui.words import figures
from tui.words.cells import cut
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from sessions.watch.live import Gauge, Live

FAST_METRICS: Final = (
    "utilisation_percent", "memory_used_bytes", "power_w", "sm_clock_mhz", "cpu_percent", "ram_used_bytes",
)  # fmt: skip
MANY: Final = 4  # GPUs; more of them get a line or two each
BAR: Final = 8
SHORT_BAR: Final = 4


class Readings:
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


def gpu_line(live: Live, source: str, width: int) -> list[Piece]:
    """A GPU in one line: how busy, memory, power, clock, heat and what holds it back, as far as there is room."""
    read = Readings(live.gauges, source)
    head = f"GPU {source.removeprefix('gpu')} "
    if read.unreadable:
        return [(head, "title"), (cut(read.unreadable, width - len(head)), "bad")]
    cells = BAR if width >= 60 else SHORT_BAR
    filled, empty = figures.bar(share(read("utilisation_percent"), 100), cells)
    clock, heat, mask = read("sm_clock_mhz"), read("temperature_c"), read("throttle_reasons")
    held = " · ".join(throttle_words(mask)) if mask is not None and slows(mask) else ""
    parts = [
        figures.percent(read("utilisation_percent")).rjust(5),
        figures.of_total(read("memory_used_bytes"), read("memory_total_bytes")),
        watts(read("power_w"), read("power_limit_w") if cells == BAR else None),
        f"{clock:.0f} MHz" if clock is not None else "",
        f"{heat:.0f} °C" if heat is not None else "",
    ]
    room = width - len(head) - cells
    text = _whole(parts, room - 1)
    line: list[Piece] = [(head, "title"), (filled, "bar"), (empty, "dim"), (f" {text}", "")]
    left = room - cell_len(text) - 1
    return [*line, (cut(" " + held, left), "warning")] if held and left > 4 else line


def gpu_lines(live: Live, width: int) -> list[list[Piece]]:
    """A line for each GPU; where there are many, two beside each other and what they are together."""
    if len(live.gpus) <= MANY:
        return [gpu_line(live, gpu, width) for gpu in live.gpus]
    half = (width - 2) // 2
    lines = [together(live, width)]
    for first in range(0, len(live.gpus), 2):
        line: list[Piece] = []
        for gpu in live.gpus[first : first + 2]:
            own = gpu_line(live, gpu, half)
            line += [*own, (" " * (half + 2 - sum(cell_len(text) for text, _ in own)), "")]
        lines.append(line)
    return lines


def gpu_line_count(gpus: int) -> int:
    """How many lines those are."""
    return gpus if gpus <= MANY else 1 + -(-gpus // 2)


def together(live: Live, width: int) -> list[Piece]:
    """What all GPUs take, and how busy they are on average; a sum only where each of them was read."""
    reads = [Readings(live.gauges, source) for source in live.gpus]
    busy = [read("utilisation_percent") for read in reads]
    mean = total([value / len(busy) if value is not None else None for value in busy])
    parts = [
        watts(total([read("power_w") for read in reads]), total([read("power_limit_w") for read in reads])),
        figures.of_total(
            total([read("memory_used_bytes") for read in reads]), total([read("memory_total_bytes") for read in reads])
        ),
        f"{figures.percent(mean)} busy",
    ]
    head = f"{len(live.gpus)} GPUs "
    return [(head, "title"), (_whole(parts, width - len(head)), "strong")]


def _whole(parts: Sequence[str], room: int) -> str:
    """As many of the parts as there is room for, rather than half of one."""
    said = [part for part in parts if part]
    while len(said) > 1 and cell_len(" · ".join(said)) > room:
        said.pop()
    return cut(" · ".join(said), room)


def total(values: Sequence[float | None]) -> float | None:
    """The sum; None where one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def share(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None


def watts(power: float | None, limit: float | None) -> str:
    if power is None:
        return figures.UNKNOWN
    return f"{power:.0f} W" if limit is None else f"{power:.0f}/{limit:.0f} W"

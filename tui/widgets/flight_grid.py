"""The requests in flight as a grid of cells, one a slot, and how many generate: one may be chosen to be looked into."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.message import Message

from sessions.watch.live import FlightLive
from tui.widgets.drawn_lines import Piece
from tui.widgets.live_lines import LiveLines
from tui.words import figures
from tui.words.cells import fit

CELL: Final = 15
BAR: Final = 6
MOST_LINES: Final = 8
FEW_LINES: Final = 3


class FlightGrid(LiveLines, can_focus=True):
    """A cell has the request's number and how far it is. The arrow keys choose a slot, enter lets go of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left", "choose(-1)", "Slot before", show=False, id="flights.before", tooltip="Look into the slot before"
        ),
        Binding("right", "choose(1)", "Next slot", show=False, id="flights.next", tooltip="Look into the next slot"),
        Binding("backspace", "choose(0)", "Any slot", show=False, id="flights.any", tooltip="Look into no slot"),
    ]

    DEFAULT_CSS = """
    FlightGrid { height: auto; }
    FlightGrid:focus { background-tint: $foreground 4%; }
    """

    class Chosen(Message):
        """Look into another slot; None: into none."""

        def __init__(self, slot: int | None) -> None:
            super().__init__()
            self.slot = slot

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.slot: int | None = None
        self.most_lines = MOST_LINES

    def action_choose(self, step: int) -> None:
        slots = len(self.live.flights) if self.live is not None else 0
        if not step or not slots:
            self.slot = None
        else:
            self.slot = (self.slot + step) % slots if self.slot is not None else 0 if step > 0 else slots - 1
        self.post_message(self.Chosen(self.slot))
        self.show()

    def lines_of(self, slots: int, width: int) -> int:
        """How many lines it takes for so many slots."""
        rows = -(-slots // max(1, width // CELL))
        return 1 + min(rows, self.most_lines + 1)

    def draw(self, width: int) -> list[list[Piece]]:
        live = self.live
        if live is None or not live.points:
            return []
        flights = live.flights
        present = [flight for flight in flights if flight is not None]
        generating = sum(flight.tokens > 0 for flight in present)
        said = f"{len(present)} in flight · {generating} generating · {len(present) - generating} waiting"
        filled, empty = figures.bar(generating / len(flights) if flights else None, 10)
        rate = f" · {figures.rate(live.tok_s_now)} tok/s" if live.tok_s_now is not None else ""
        lines: list[list[Piece]] = [[(filled, "bar"), (empty, "dim"), (fit(f" {said}{rate}", width - 10).rstrip(), "")]]
        across = max(1, width // CELL)
        rows = -(-len(flights) // across)
        first = 0
        if rows > self.most_lines and self.slot is not None:  # the chosen one in view
            first = max(0, min(self.slot // across - self.most_lines // 2, rows - self.most_lines))
        for row in range(first, min(rows, first + self.most_lines)):
            line: list[Piece] = []
            for slot in range(row * across, min(len(flights), (row + 1) * across)):
                line += self._cell(slot, flights[slot])
            lines.append(line)
        if rows > self.most_lines:
            lines.append([(f"{len(flights)} slots: ← and → go through all", "dim")])
        return lines

    def _cell(self, slot: int, flight: FlightLive | None) -> list[Piece]:
        chosen = slot == self.slot
        if flight is None:
            return [(fit("▸" if chosen else " ", 1), "accent"), (fit("·", CELL - 1), "dim")]
        share = flight.tokens / flight.new_tokens if flight.new_tokens else None
        filled, empty = figures.bar(share, BAR)
        number = "warm-up" if flight.warmup else str(flight.request + 1)
        style = "accent" if flight.looked_into else "dim" if not flight.tokens else ""
        return [
            ("▸" if chosen else " ", "accent"),
            (fit(number, CELL - BAR - 3, right=True), style),
            (" ", ""),
            (filled, "good" if flight.looked_into else "bar"),
            (empty, "dim"),
            (" ", ""),
        ]

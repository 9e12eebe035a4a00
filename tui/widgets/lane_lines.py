"""Which block runs where, while rounds are measured side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from tui.widgets.drawn_lines import Piece
from tui.widgets.theme import method_style, sign_of
from tui.words import figures
from tui.words.block_steps import SHORT, STEPS
from tui.words.cells import fit

if TYPE_CHECKING:
    from sessions.disk.plan import Plan
    from sessions.watch.live import LaneLive, Live

LEAST: Final = 36  # cells of a lane
MOST_ACROSS: Final = 4
IDLE: Final = "waiting for the others"
STEP: Final = 7  # cells of a step or a rate


def lane_line_count(lanes: int, width: int) -> int:
    """How many lines `lane_lines` takes."""
    return -(-lanes // _across(lanes, width)) if lanes > 1 else 0


def lane_lines(live: Live, plan: Plan, width: int) -> list[list[Piece]]:
    """All lanes in their order, one below the other and then beside each other: GPUs, method, block, step and rate."""
    at_work = {lane.place: lane for lane in live.lanes}
    places = {row.name: place for place, row in enumerate(live.methods)}
    count = lane_line_count(plan.lanes, width)
    across = _across(plan.lanes, width)
    room = (width - 2 * (across - 1)) // across
    lines: list[list[Piece]] = []
    for row in range(count):
        line: list[Piece] = []
        for lane in range(row, plan.lanes, count):
            pieces = _lane(lane, at_work.get(lane), places, room)
            line += pieces
            if lane + count < plan.lanes:
                line.append((" " * (room + 2 - sum(cell_len(text) for text, _ in pieces)), ""))
        lines.append(line)
    return lines


def _across(lanes: int, width: int) -> int:
    return max(1, min(MOST_ACROSS, width // LEAST, -(-lanes // 2)))


def _lane(place: int, lane: LaneLive | None, places: dict[str, int], room: int) -> list[Piece]:
    head = f"lane {place + 1} " if room >= 48 else f"{place + 1} "
    if lane is None:
        return [(head, "title"), (fit(IDLE, room - len(head)), "dim")]
    gpus = [source.removeprefix("gpu") for source in lane.gpus]
    where = f"GPU {gpus[0]}{f'–{gpus[-1]}' if len(gpus) > 1 else ''} " if gpus else ""
    said = dict(STEPS).get(lane.block_phase, lane.block_phase)
    step = said if len(said) <= STEP else SHORT.get(lane.block_phase, lane.block_phase)
    rate = figures.rate(lane.tok_s_now) if lane.tok_s_now is not None else ""
    tail = f" block {lane.block + 1} {fit(step, 8)} {rate.rjust(6)} tok/s" if room >= 64 else ""
    tail = tail or f" b{lane.block + 1} {(rate or step).rjust(STEP)}"
    style = method_style(places[lane.method]) if lane.method in places else ""
    name = fit(f"{sign_of(style)} {lane.method}", max(4, room - len(head) - len(where) - len(tail)))
    return [(head, "title"), (where, "dim"), (name, style), (tail, "")]

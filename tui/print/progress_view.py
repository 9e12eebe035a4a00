"""What `run`, `attach` and `replay` show of a session: a live block on a terminal, otherwise plain lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from sessions.watch.live import Gauge, Live, MethodLive, PointLive
from tui.print.live_block import LiveBlock
from tui.words.figures import UNKNOWN, blocks_done, of_total, percent, rate, size, time_left, trend
from tui.words.host_words import HOST_LOST, HOST_REACHED
from tui.words.terminal_text import one_line

TEXT_LINES = 3


class ProgressView(LiveBlock):
    """Shows snapshots; on a terminal in place, elsewhere a line for every phase and block."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lost = False

    def show(self, live: Live) -> None:
        """Show one snapshot."""
        if self._console.is_terminal:
            footer = " · ".join(part for part in (HOST_LOST if self._lost else "", self.footer) if part)
            self._draw(picture(live, self._console.width, footer))
            return
        for line in milestones(live):
            self._say(line)

    def tell_reach(self, *, lost: bool) -> None:
        """From now on the host that measures the session is out of reach, or it is reached again."""
        self._lost = lost
        if not self._console.is_terminal:
            self._console.print(Text(HOST_LOST if lost else HOST_REACHED), soft_wrap=True)


def milestones(live: Live) -> list[str]:
    """What has happened so far as sentences, each printed once."""
    points = {row.name: [point for point in live.points if point.method == row.name] for row in live.methods}
    lines = [
        one_line(f"{phase.name}: {phase.detail or phase.state}")
        for phase in live.phases
        if phase.state in ("ended", "failed") or (phase.state == "started" and phase.detail)
    ]
    lines += [
        _blocks_sentence(row, points[row.name]) for row in live.methods if row.blocks_done and row.name != live.method
    ]
    return lines + [one_line(note) for note in live.notes]


def _blocks_sentence(row: MethodLive, points: Sequence[PointLive]) -> str:
    what = f"{rate(row.tok_s_mean)} tok/s" if row.tok_s_mean is not None else row.state
    if points:
        best = max((point.tok_s_total for point in points if point.tok_s_total is not None), default=None)
        what = f"up to {rate(best)} tok/s" if best is not None else row.state
    return one_line(f"{row.name}: {blocks_done(row.blocks_done, row.blocks, ' of ')} done, {what}")


def picture(live: Live, width: int, footer: str) -> RenderableType:
    """The live block: where it stands, the methods, the text of the current request, the gauges."""
    lines: list[RenderableType] = [_head(live)]
    if live.status == "preparing":
        lines += [
            _phase_line(phase.name, phase.detail, phase.done, phase.total, phase.unit) for phase in live.phases[-4:]
        ]
    if live.points:
        lines += [_points_line(row, live) for row in live.methods]
    else:
        lines += [_method_line(row, row.name in live.at_work) for row in live.methods]
    if live.request is not None:
        lines.append(Text(""))
        lines += [Text(line, style="dim") for line in _tail(live.text, width - 2)]
    lines.append(_gauges(live))
    if footer:
        lines.append(Text(footer, style="bold"))
    return Group(*lines)


def _head(live: Live) -> Text:
    parts = [f"kasoku · {live.session} · {live.status}"]
    if live.method is not None:
        what = (
            ""
            if live.request is None
            else f" · {'warm-up' if live.warmup else 'request'} {abs(live.request) + (not live.warmup)}"
        )
        parts.append(
            f"block {live.position}{f'/{live.of}' if live.of else ''}: {live.method}, {live.block_phase}{what}"
        )
    parts += [
        f"beside it {lane.method}, block {lane.block + 1}, {lane.block_phase}"
        + (f", {rate(lane.tok_s_now)} tok/s" if lane.tok_s_now is not None else "")
        for lane in live.lanes
        if (lane.method, lane.block) != (live.method, live.block)
    ]
    if live.tok_s_now is not None:
        parts.append(f"{rate(live.tok_s_now)} tok/s now")
    if left := time_left(live.left_s, live.left_most_s):
        parts.append(f"about {left} left")
    return Text(one_line(" — ".join(parts)), style="bold", overflow="ellipsis", no_wrap=True)


def _phase_line(name: str, detail: str, done: int | None, total: int | None, unit: str) -> Text:
    amount = ""
    if done is not None:
        shown = size if unit == "bytes" else str
        amount = f" {shown(done)}" + (f" of {shown(total)}" if total else "")
    return Text(f"  {one_line(f'{name}: {detail}', 160)}{amount}", overflow="ellipsis", no_wrap=True)


def _method_line(row: MethodLive, at_work: bool) -> Text:
    mark = "▶" if at_work else {"ok": "✓", "waiting": "·"}.get(row.state, "✗" if row.error else "·")
    effect = "" if row.in_effect is None else "  in effect" if row.in_effect else "  NOT in effect"
    decided = "  decided" if row.decided else ""
    ratio = UNKNOWN if row.ratio is None else f"{row.ratio:.2f}×"
    text = (
        f"{mark} {one_line(row.name, 40):<24} {rate(row.tok_s_mean):>7} tok/s {ratio:>7}"
        f"  {blocks_done(row.blocks_done, row.blocks)}{effect}{decided} {trend(row.history, 12)}"
    )
    return Text(text, style="bold" if at_work else "", overflow="ellipsis", no_wrap=True)


def _points_line(row: MethodLive, live: Live) -> Text:
    """A method's throughput at each point that it has reached."""
    shown = [point for point in live.points if point.method == row.name and point.status != "waiting"]
    said = [
        f"{one_line(point.point, 24)} {rate(point.tok_s_total)}"
        if point.tok_s_total is not None
        else f"{one_line(point.point, 24)} {'▶' if point.status == 'running' else one_line(point.status, 20)}"
        for point in shown
    ]
    mark = "▶" if row.name == live.method else "·"
    text = f"{mark} {one_line(row.name, 40):<24} tok/s at {', '.join(said) or UNKNOWN}"
    return Text(text, style="bold" if row.name == live.method else "", overflow="ellipsis", no_wrap=True)


def _tail(text: str, width: int) -> list[str]:
    flat = one_line(text[-4 * width * TEXT_LINES :], 10**6)
    lines = [flat[start : start + width] for start in range(0, len(flat), max(1, width))]
    return lines[-TEXT_LINES:]


def _gauges(live: Live) -> Text:
    def value(source: str, metric: str) -> float | None:
        gauge: Gauge | None = live.gauges.get((source, metric))
        return gauge.value if gauge is not None else None

    parts = []
    for gpu in live.gpus:
        memory = of_total(value(gpu, "memory_used_bytes"), value(gpu, "memory_total_bytes"))
        watts = value(gpu, "power_w")
        power = UNKNOWN if watts is None else f"{watts:.0f} W"
        parts.append(f"{gpu} {percent(value(gpu, 'utilisation_percent'))} · {memory} · {power}")
    ram = of_total(value("host", "ram_used_bytes"), value("host", "ram_total_bytes"))
    parts.append(
        f"CPU {percent(value('host', 'cpu_percent'))} · RAM {ram} · runner {size(value('runner', 'rss_bytes'))}"
    )
    return Text(one_line("  ".join(parts), 1000), style="cyan", overflow="ellipsis", no_wrap=True)


def follow(view: ProgressView, poll: Callable[[], Live | None], interrupted: Callable[[], bool]) -> bool:
    """Show what `poll` gives until it gives None; on ctrl+c asks `interrupted` whether to leave. True: left early."""
    while True:
        try:
            live = poll()
            if live is None:
                return False
            view.show(live)
        except KeyboardInterrupt:
            if interrupted():
                return True

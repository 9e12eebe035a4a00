"""What `run --on` shows: a panel for each host on a terminal, otherwise plain lines with the host's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from sessions.watch.live import Live
from tui.print.live_block import LiveBlock
from tui.print.progress_view import milestones, picture
from tui.words.host_words import OUT_OF_REACH
from tui.words.terminal_text import one_line


@dataclass(frozen=True, slots=True)
class HostLive:
    """A host's session at one moment; `lost`: as it was when the host was last reached."""

    host: str
    lost: bool
    live: Live


class HostsView(LiveBlock):
    """Shows snapshots of several hosts."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lost: set[str] = set()

    def show(self, hosts: Sequence[HostLive]) -> None:
        """Show one snapshot of each."""
        if self._console.is_terminal:
            panels = [
                Panel(
                    picture(each.live, self._console.width - 4, OUT_OF_REACH if each.lost else ""),
                    title=Text(one_line(each.host, 40)),
                    title_align="left",
                )
                for each in hosts
            ]
            self._draw(Group(*panels, Text(self.footer, style="bold")))
            return
        for each in hosts:
            self._tell_reach(each)
            for line in milestones(each.live):
                self._say(f"{each.host}: {line}")

    def _tell_reach(self, each: HostLive) -> None:
        if each.lost != (each.host in self._lost):
            self._lost ^= {each.host}
            said = OUT_OF_REACH if each.lost else "reached again"
            self._console.print(Text(f"{each.host}: {said}"), soft_wrap=True)

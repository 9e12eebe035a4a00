"""What `run --on` shows: a panel for each host on a terminal, otherwise plain lines with the host's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.text import Text

from sessions.watch.live import Live
from tui.print.progress_view import milestones, picture
from tui.words.terminal_text import one_line

LOST = "out of reach; it goes on measuring there"


@dataclass(frozen=True, slots=True)
class HostLive:
    """A host's session at one moment; `lost`: as it was when the host was last reached."""

    host: str
    lost: bool
    live: Live


class HostsView:
    """Shows snapshots of several hosts. Used as a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = RichLive(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._said: set[str] = set()
        self._lost: set[str] = set()
        self.footer = ""

    def __enter__(self) -> HostsView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, hosts: Sequence[HostLive]) -> None:
        """Show one snapshot of each."""
        if self._live is not None:
            panels = [
                Panel(
                    picture(each.live, self._console.width - 4, LOST if each.lost else ""),
                    title=Text(one_line(each.host, 40)),
                    title_align="left",
                )
                for each in hosts
            ]
            self._live.update(Group(*panels, Text(self.footer, style="bold")), refresh=True)
            return
        for each in hosts:
            self._tell_reach(each)
            for line in milestones(each.live):
                self._say(f"{each.host}: {line}")

    def _tell_reach(self, each: HostLive) -> None:
        if each.lost != (each.host in self._lost):
            self._lost ^= {each.host}
            self._console.print(Text(f"{each.host}: {LOST if each.lost else 'reached again'}"), soft_wrap=True)

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._console.print(Text(line), soft_wrap=True)

"""What a lane of a session is at: its block, and the requests of that."""

from __future__ import annotations

from sessions.disk.records import BlockStarted
from sessions.watch.current_request import CurrentRequest
from sessions.watch.live import LaneLive


class LaneProgress:
    """`method` and `block` are None between blocks."""

    def __init__(self, times: bool) -> None:
        self.request = CurrentRequest(times=times)
        self.method: str | None = None
        self.block: int | None = None
        self.phase = ""

    def start(self, record: BlockStarted) -> None:
        """A block begins."""
        self.method, self.block, self.phase = record.method, record.block, "import"
        self.request.leave()

    def leave(self) -> None:
        """The block is over."""
        self.method = self.block = None
        self.phase = ""
        self.request.leave()

    def is_at(self, method: str, block: int) -> bool:
        return (self.method, self.block) == (method, block)

    def shown(self, place: int, gpus: tuple[str, ...]) -> LaneLive | None:
        """As the lane of this place with these GPUs; None between blocks."""
        if self.method is None or self.block is None:
            return None
        return LaneLive(place, gpus, self.method, self.block, self.phase, self.request.tok_s_now())

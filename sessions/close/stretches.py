"""What each conductor of a session measured, and where: from its journal."""

from __future__ import annotations

from dataclasses import dataclass

from sessions.device.differences import changed_since, place_seen
from sessions.disk.plan import Plan
from sessions.disk.records import AnyRecord, BlockEnded, Header, MachineSeen
from sessions.disk.session_folder import Stretch
from sessions.frames.counting import block_counts


@dataclass(slots=True)
class _Heard:
    header: Header
    last_ns: int
    rounds: tuple[int, int] | None = None
    changed: str = ""


class Stretches:
    """Feeds on the journal's records in their order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._heard: list[_Heard] = []
        self._first: MachineSeen | None = None

    def feed(self, record: AnyRecord) -> None:
        """Take one record in."""
        if isinstance(record, Header):
            self._heard.append(_Heard(record, record.t))
        if not self._heard:
            return
        here = self._heard[-1]
        here.last_ns = max(here.last_ns, record.t)
        if isinstance(record, MachineSeen):
            self._first = self._first or record
            here.changed = changed_since(place_seen(self._first, self._plan), place_seen(record, self._plan))
        elif isinstance(record, BlockEnded) and block_counts(record.status):
            first, last = here.rounds or (record.block, record.block)
            here.rounds = min(first, record.block), max(last, record.block)

    def found(self) -> list[Stretch]:
        """The stretches in their order."""
        return [
            Stretch(
                began_ns=heard.header.realtime_ns,
                seconds=(heard.last_ns - heard.header.t) / 1e9,
                boot_id=heard.header.boot_id,
                rounds=heard.rounds,
                changed=heard.changed,
            )
            for heard in self._heard
        ]

"""What a session was begun with: what is resumed is that, or is refused in a sentence.

Blocks measured with other weights, another prompt or another torch than the earlier ones have no mean with those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from methods.base.interpreter import Interpreter
from methods.environments.distributions import normalised
from methods.models.model import Model
from sessions.disk.plan import PlannedBlock
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockStarted,
    Loaded,
    MachineSeen,
    PointEnded,
    Prepared,
    ReferenceScored,
    RequestStarted,
)
from sessions.frames.counting import block_counts

DATED: Final = (
    "The model's chat template writes the date or the time into the prompt: this session keeps its first prompt, and "
    "a session of another day has another one."
)
HELD: Final = ("torch", "transformers", "vllm", "sglang", "triton")  # besides what a runner reports

Versions = Mapping[str, str]


@dataclass(slots=True)
class Begun:
    """Taken from a journal's records, in their order.

    `prepared` is the first of the preparations, `machine` what was first seen of it and `reference` the latest scores
    of the reference, None before that.
    `environments` are the interpreters of the first block that counts in each, `versions` by method what the runner of
    its first block that counts reported.
    """

    prepared: Prepared | None = None
    reference: ReferenceScored | None = None
    machine: MachineSeen | None = None
    environments: dict[str, Interpreter] = field(default_factory=dict)
    versions: dict[str, Versions] = field(default_factory=dict)
    done: set[tuple[str, int]] = field(default_factory=set)  # the blocks that count, by method and number
    points: dict[tuple[str, int], set[int]] = field(default_factory=dict)  # of a load, the points that count
    _latest: Prepared | None = None
    _loaded: dict[tuple[str, int], Loaded] = field(default_factory=dict)
    _asked: dict[tuple[str, int], set[int]] = field(default_factory=dict)  # points that a block was ever to measure
    _ended: set[int] = field(default_factory=set)  # points of the block that runs which count
    _over: set[int] = field(default_factory=set)  # and those that are over
    _under_way: int | None = None  # the point that it is at

    @classmethod
    def of(cls, records: Iterable[AnyRecord]) -> Begun:
        """What a whole journal tells."""
        begun = cls()
        for record in records:
            begun.feed(record)
        return begun

    def feed(self, record: AnyRecord) -> None:
        """Take one record in."""
        match record:
            case Prepared():
                self._latest = record
                self.prepared = self.prepared or record
            case ReferenceScored():
                self.reference = record
            case MachineSeen():
                self.machine = self.machine or record
            case Loaded():
                self._loaded[record.method, record.block] = record
            case BlockStarted():
                self._asked.setdefault((record.method, record.block), set()).update(record.points)
                self._ended, self._over, self._under_way = set(), set(), None
            case RequestStarted():
                self._under_way = record.place
            case PointEnded():
                self._end_point(record)
            case BlockEnded():
                self._end_block(record)

    def left(self, block: PlannedBlock) -> PlannedBlock:
        """The block with the points that do not count yet."""
        counted = self.points.get((block.method, block.block), set())
        return replace(block, points=[place for place in block.points if place not in counted])

    def not_reached(self, block: PlannedBlock) -> PlannedBlock | None:
        """Of a block that has just broken off at one point of several: the block with the points after that; None where
        there are none, or no point was to blame.
        """
        rest = [place for place in block.points if place not in self._over and place != self._under_way]
        return replace(block, points=rest) if rest and self._under_way is not None else None

    def _end_point(self, record: PointEnded) -> None:
        """A point that was measured counts, also in a block that breaks off later."""
        self._over.add(record.place)
        self._under_way = None
        if block_counts(record.status):
            place = (record.method, record.block)
            self.points.setdefault(place, set()).add(record.place)
            self._ended.add(record.place)
            self._judge(place)  # what comes after the last point is no reason to measure any again

    def _end_block(self, record: BlockEnded) -> None:
        self._over.update(record.points)  # of a block that was not run
        place = (record.method, record.block)
        counted = self.points.setdefault(place, set())
        if record.void:
            counted -= self._ended
            self.done.discard(place)
            self._under_way = None
        if self._asked.get(place):
            self._judge(place)
        elif block_counts(record.status):
            self.done.add(place)
        if block_counts(record.status) or (self._ended and not record.void):
            self._hold(record)

    def _judge(self, place: tuple[str, int]) -> None:
        """A load's block is done once all points that it was ever to measure count."""
        if self._asked.get(place, set()) <= self.points.get(place, set()):
            self.done.add(place)

    def _hold(self, record: BlockEnded) -> None:
        interpreter = self._latest.interpreters.get(record.method) if self._latest else None
        if interpreter is not None:
            self.environments.setdefault(interpreter.environment, interpreter)
        loaded = self._loaded.get((record.method, record.block))
        if loaded is not None:
            self.versions.setdefault(record.method, _texts(loaded.versions))

    def other_model(self, model: Model, settings_digest: str) -> str:
        """The sentence that refuses a model which is not the one that the session was begun with, or ""."""
        if self.prepared is None:
            return ""
        before = self.prepared.model.weights_digest
        if before and before != model.weights_digest:
            return (
                f"The weights of {model.name} are not those that the session was begun with"
                f" (SHA-256 {before:.12}… then, {model.weights_digest:.12}… now):"
                " start a new session, or put the earlier ones back and resume."
            )
        first = self.prepared.model.code_digest
        if self.prepared.settings_digest not in ("", settings_digest) or first not in (None, model.code_digest):
            return (
                f"The config.json, generation_config.json or code of {model.name} has changed since the session was"
                " begun: start a new session, or put the earlier files back and resume."
            )
        return ""

    def other_environment(self, interpreter: Interpreter) -> str:
        """The sentence that refuses an environment with other versions than its earlier blocks had, or ""."""
        earlier = self.environments.get(interpreter.environment)
        if earlier is None:
            return ""
        reported = {normalised(name) for versions in self.versions.values() for name in versions}
        compared = reported.union(HELD)
        changed = _changed(
            {name: version for name, version in earlier.versions.items() if normalised(name) in compared},
            interpreter.versions,
        )
        if not changed:
            return ""
        return (
            f"The session's environment {interpreter.environment} {changed}: start a new session, or have the earlier "
            f"versions in it again and resume."
        )

    def other_versions(self, loaded: Loaded) -> str:
        """The sentence that fails a block whose runner reports other versions than its method's earlier ones, or ""."""
        changed = _changed(self.versions.get(loaded.method, {}), _texts(loaded.versions))
        if not changed:
            return ""
        return (
            f"This method's environment {changed}, unlike in its earlier blocks: start a new session, or have the"
            " earlier versions in it again and resume."
        )


def _texts(versions: Mapping[str, object]) -> dict[str, str]:
    return {name: version for name, version in versions.items() if isinstance(version, str)}


def _changed(before: Versions, now: Versions) -> str:
    """ "had torch 2.13.0 and now has 2.1.2", of what is in both; "" where nothing has changed."""
    other = [name for name in sorted(before) if now.get(name, before[name]) != before[name]]
    return " and ".join(f"had {name} {before[name]} and now has {now[name]}" for name in other)

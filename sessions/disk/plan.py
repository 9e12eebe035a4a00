"""The plan of a session: what is run, how often, in which order. Made by a viewer, kept as plan.json, never changed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Final

from msgspec import Meta

from methods.catalogue.method import Method
from sessions.disk.options import MOST_BLOCKS, RunOptions
from sessions.disk.point import PLAIN, Point
from sessions.disk.records import SCHEMA_VERSION

METHOD_NAME: Final = r"\A[A-Za-z0-9][A-Za-z0-9._@-]{0,99}\Z"  # also part of the names of files

DEGREE: Final = "@"  # between the name of a row and how it is split over GPUs
TENSOR: Final = "tensor_parallel"  # the options that say so, and keys of the rows that can be
PIPELINE: Final = "pipeline_parallel"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMethod(Method):
    """A catalogue row as it was when the plan was made, so that a session never changes its meaning.

    `named` is true if the user asked for the method by name: then not running is an error, not just a row.
    `degree` is over how many of the session's GPUs, the first ones, it is split; None: over whatever there are. `split`
    is TENSOR or PIPELINE; "": as its engine does by itself.
    """

    name: Annotated[str, Meta(pattern=METHOD_NAME)]
    environment: str  # the device's of `environments`
    named: bool = True
    lacking: dict[str, str] = field(default_factory=dict)  # reason and remedy, where the device cannot run the method
    degree: Annotated[int, Meta(ge=1)] | None = None
    split: str = ""

    @property
    def row(self) -> str:
        """The name of its row of the catalogue."""
        return self.name.partition(DEGREE)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBlock:
    """One fresh process of one method: the warm-ups, then the timed requests with these numbers.

    `points` are the indices of the plan's points that it measures, in its order; empty without a load.
    """

    method: str
    block: int
    requests: list[int]
    points: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRequests:
    """What one block measures at one point, by its place in the plan: the numbers of warm-ups and timed requests."""

    place: int
    warmups: list[int]
    timed: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityRule:
    """What fidelity is measured on: `windows`, `scored` ids of each, half of them text and half the reference's greedy
    continuation of text. `text_digest` is SHA-256 over the text's UTF-8. `bos` says what comes before
    a window's text: `tokeniser` is whatever the model's tokeniser puts before a text by itself.
    """

    text_digest: str
    windows: int
    scored: int
    bos: str = "tokeniser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """How much is measured: so many blocks of each method, or with `until` at most so many.

    `until`: rounds are added until each ratio is decided, or known to within that share of it; `at_most`: and as long
    as they end within that many seconds. A plan has one, and a session that was extended its later ones, which go on
    after the first `since` rounds. `at_most` alone is the rule for a server that runs already: measuring ends by then,
    with what there is. `fidelity`: and each method's fidelity, where the plan did not ask for it.
    """

    blocks: Annotated[int, Meta(ge=1, le=MOST_BLOCKS)]
    until: float | None = None
    at_most: float | None = None
    since: Annotated[int, Meta(ge=0, le=MOST_BLOCKS)] = 0
    fidelity: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether measuring ends at that time by the clock, within a block and a response too."""
        return self.at_most is not None and self.until is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(RunOptions):
    """One session's plan: the options of the run, and what they came to on this machine."""

    schema_version: int = SCHEMA_VERSION
    methods: Annotated[list[PlannedMethod], Meta(max_length=1000)] = field(default_factory=list)
    # the first is primary: what `until` judges
    points: Annotated[list[Point], Meta(min_length=1, max_length=1000)] = field(default_factory=lambda: [PLAIN])
    prompt_given: bool = False  # by the user, rather than by the preset
    fidelity_rule: FidelityRule | None = None
    device_name: str = ""
    gpu_uuids: list[str] = field(default_factory=list)
    gpu_visible: list[str] = field(default_factory=list)  # what CUDA_VISIBLE_DEVICES says: UUIDs, or MIG devices
    gpu_sources: list[str] = field(default_factory=list)  # the GPUs as sources of telemetry: "gpu0"
    command: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # sentences on how the request was understood

    @property
    def goal(self) -> Goal:
        """How much is measured, unless the session is extended."""
        return Goal(blocks=self.blocks, until=self.until, at_most=self.at_most, fidelity=self.fidelity)

    @property
    def primary(self) -> Point:
        """The point that is judged: the first that was asked for."""
        return self.points[0]

    @property
    def has_load(self) -> bool:
        """Whether it measures more than one response after another."""
        return self.points != [PLAIN]

    def new_tokens(self, place: int) -> int:
        """The most tokens of a response at a point."""
        return self.points[place].osl or self.sampling.max_new_tokens

    def parts(self, block: PlannedBlock) -> list[PointRequests]:
        """A block's requests by its points, in its order; the numbers are the same whatever that is."""
        if not self.has_load:
            return [PointRequests(place=0, warmups=warmup_numbers(self.warmup), timed=block.requests)]
        whole: list[PointRequests] = []
        first = warm = 0
        for place, point in enumerate(self.points):
            numbers = block.requests[first : first + point.requests]
            warmups = list(range(-warm - point.warmup, -warm))
            first, warm = first + point.requests, warm + point.warmup
            whole.append(PointRequests(place=place, warmups=warmups, timed=numbers))
        return [whole[place] for place in block.points]

    def order(self, goals: Sequence[Goal] = ()) -> list[PlannedBlock]:
        """The blocks of all rounds, one after another; of all that `goals` ask for instead of the plan's own."""
        return [row for rows in self.rounds_of(goals or (self.goal,)) for row in rows]

    def rounds_of(self, goals: Sequence[Goal]) -> list[list[PlannedBlock]]:
        """The rounds by number that these goals, of which each extends the ones before it, ask for.

        Those of an earlier goal with `until` are empty: who took no part in one then would now be measured beside
        nobody.
        """
        rounds = self.rounds(goals[-1].blocks)
        for goal, following in pairwise(goals):
            if goal.until is not None:
                for number in range(goal.since, min(following.since, len(rounds))):
                    rounds[number] = []
        return rounds

    def rounds(self, blocks: int) -> list[list[PlannedBlock]]:
        """Blocks interleaved: every method once per round, each round in an order drawn from the seed.

        Timed requests are numbered through a method's blocks from 0; the first blocks take the remainder. Rounds beyond
        the plan's own go on with both, so that those of an extended session continue the ones it has.
        """
        drawn = random.Random(self.seed)  # noqa: S311 - an order, not a secret
        rounds: list[list[PlannedBlock]] = []
        first = 0
        for block in range(blocks):
            numbers = list(range(first, first + self._size(block)))
            first += len(numbers)
            names = [method.name for method in self.methods]
            drawn.shuffle(names)
            points = self._points_in(block)
            rounds.append([PlannedBlock(method=name, block=block, requests=numbers, points=points) for name in names])
        return rounds

    def requests_in(self, blocks: int) -> int:
        """How many timed requests of a method so many blocks hold."""
        return sum(map(self._size, range(blocks)))

    def _points_in(self, block: int) -> list[int]:
        """The places of all points, in the order of that round: the same for every method."""
        if not self.has_load:
            return []
        places = list(range(len(self.points)))
        random.Random(f"{self.seed} {block}").shuffle(places)  # noqa: S311 - an order, not a secret
        return places

    def _size(self, block: int) -> int:
        if self.has_load:
            return sum(point.requests for point in self.points)
        return self.requests // self.blocks + (1 if block < self.requests % self.blocks else 0)

    def method(self, name: str) -> PlannedMethod:
        """The planned method of that name; KeyError where the plan has none."""
        for method in self.methods:
            if method.name == name:
                return method
        raise KeyError(name)

    @property
    def lanes(self) -> int:
        """How many rounds are measured side by side."""
        return self.spread or 1

    def lane_of(self, block: int) -> int:
        """In which lane, from 0, the round of this number is measured: always the same one."""
        return block % self.lanes

    def gpus_of(self, name: str, block: int) -> slice:
        """Which of the session's GPUs a block uses: of its lane's as many as the method's degree, from the first on, or
        all of them."""
        degree = next((method.degree for method in self.methods if method.name == name), None)
        if self.lanes == 1:
            return slice(degree)
        own = self.gpus_of_lane(self.lane_of(block))
        each = own.stop - own.start
        return slice(own.start, own.start + min(degree or each, each))

    def gpus_of_lane(self, lane: int) -> slice:
        """Which of the session's GPUs a lane has."""
        each = len(self.gpu_uuids) // self.lanes
        return slice(lane * each, (lane + 1) * each)

    def request_seed(self, request: int) -> int:
        """The same seed for the same request of every method; warm-ups (negative numbers) have their own."""
        return (self.seed * 1_000_003 + request) % (2**31)


def warmup_numbers(count: int) -> list[int]:
    """Warm-ups are numbered -count … -1, so that timed requests start at 0."""
    return list(range(-count, 0))

"""The live state of a followed journal: records go in, an immutable snapshot comes out.

The same reducer serves the command line, the workbench and a replay; it does no I/O and knows no clock of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from sessions.disk.options import MOST_BLOCKS
from sessions.disk.plan import Goal, Plan
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    Energy,
    EvidenceTaken,
    GoalSet,
    Header,
    Loaded,
    Look,
    MachineSeen,
    ManyTokens,
    Memory,
    Note,
    Phase,
    PointEnded,
    PointStarted,
    Prepared,
    ReferenceScored,
    RequestEnded,
    RequestStarted,
    SessionEnded,
    Telemetry,
    Text,
    Tokens,
)
from sessions.verdict.block_sums import MethodFigures
from sessions.verdict.statistics import LogRatio
from sessions.verdict.stopping import looked_at
from sessions.verdict.verdicts import judge
from sessions.watch.current_request import Decoder
from sessions.watch.lane_progress import LaneProgress
from sessions.watch.laps import Lap
from sessions.watch.latest_readings import LatestReadings
from sessions.watch.live import FlightLive, LaneLive, Live, MethodLive, PhaseLive
from sessions.watch.method_progress import MethodProgress
from sessions.watch.point_progress import PointProgress
from sessions.watch.rounds_left import rounds_left
from sessions.watch.time_left import TimeLeft
from sessions.watch.time_line import TimeLine

NOTES = 20
InLane = BlockStarted | BlockPhase | RequestStarted | Tokens | ManyTokens | Text | RequestEnded | BlockEnded


class LiveReducer:
    """Feeds on records in the journal's order; `snapshot()` may be taken at any time.

    `open_decoder` is called with the model's folder once it is known and gives a function that turns the next token
    ids into the next piece of text, or None where the model has no tokeniser.
    """

    def __init__(
        self, plan: Plan, session: str, open_decoder: Callable[[str], Callable[[], Decoder] | None] | None = None
    ) -> None:
        self._plan = plan
        self._session = session
        self._open_decoder = open_decoder
        self._methods = {method.name: MethodProgress() for method in plan.methods}
        self._lanes = [LaneProgress(times=plan.has_load) for _ in range(plan.lanes)]
        self._points = PointProgress(plan) if plan.has_load else None
        self._place: int | None = None
        self._readings = LatestReadings(plan.lanes)
        self._time_line = TimeLine()
        self._left = TimeLeft(plan)
        self._status, self._error = "preparing", ""
        self._phases: dict[str, PhaseLive] = {}
        self._notes: deque[str] = deque(maxlen=NOTES)
        self._now = 0
        self._started: int | None = None
        self._zero = 0  # where the session's seconds begin on the clock of this stretch
        self._goals, self._decided = [plan.goal], frozenset[str]()
        self._position, self._of = 0, len(plan.methods) * plan.blocks
        self._model_folder: str | None = None

    def feed(self, record: AnyRecord) -> None:
        """Take one record in."""
        # a resumed session's clock restarts if the machine was rebooted in between
        if isinstance(record, Header):
            self._zero = record.t - (self._now - self._zero if self._started is not None else 0)
        self._now = record.t if isinstance(record, Header) else max(self._now, record.t)
        match record:
            case Header():
                self._started = self._started or record.t
                self._status, self._error = "preparing", ""
                self._cut()
                self._left.resume()
            case GoalSet():
                self._take_goal(record)
            case Look():
                self._decided = frozenset(record.done)
            case Phase():
                self._phases[record.name] = PhaseLive(
                    record.name, record.state, record.detail, record.done, record.total, record.unit
                )
            case Prepared():
                self._take_prepared(record)
            case MachineSeen():
                self._readings.gpus = tuple(record.gpus)
            case BlockStarted():
                self._start_block(record)
            case BlockPhase():
                self._enter(record)
            case Loaded():
                self._progress(record.method).change(record.block).load_s = record.load_s
            case RequestStarted():
                self._lane(record).request.start(record)
            case Tokens():
                if record.times:
                    self._now = max(self._now, record.times[-1])
                self._lane(record).request.take(record)
                self._draw_rate(record)
            case ManyTokens():
                self._lane(record).request.take_many(record)
                self._draw_rate(record)
            case Text():
                if record.times:
                    self._now = max(self._now, record.times[-1])
                self._lane(record).request.take_text(record)
            case PointStarted() | PointEnded():
                self._take_point(record)
            case RequestEnded():
                self._end_request(record)
            case Memory():
                self._progress(record.method).change(record.block).peak_rss_bytes = record.peak_rss_bytes
            case EvidenceTaken():
                sums = self._progress(record.method).change(record.block)
                sums.in_effect, sums.in_effect_reason = record.in_effect, record.reason
            case Energy():
                self._progress(record.method).read_energy(record)
            case BlockEnded():
                self._end_block(record)
            case Telemetry():
                self._readings.take(record)
                self._draw_readings(record)
            case ReferenceScored():
                if record.windows:
                    self._left.expect_scores()
            case Note():
                self._notes.append(record.text)
            case SessionEnded():
                self._status, self._error = record.status, record.error
                self._cut()
            case _:
                pass

    def look_into(self, slot: int | None) -> None:
        """Show the text of the request in this slot; None: of the one that is there longest."""
        self._shown.request.look_into(slot)

    def _take_point(self, record: PointStarted | PointEnded) -> None:
        if self._points is None or not 0 <= record.place < len(self._plan.points):
            return
        if isinstance(record, PointStarted):
            self._points.start(record)
            self._place = record.place
        else:
            self._points.end(record)
            self._place = None

    def _end_request(self, record: RequestEnded) -> None:
        request = self._lane(record).request
        flight = request.flight_of(record)
        for tok_s, ttft_s, tokens in request.end(record):
            self._progress(record.method).add(record.block, tok_s, ttft_s, tokens)
            if flight is not None and self._points is None:
                self._progress(record.method).laps.add(self._lap(flight.begun.t, record.t, tok_s))
        if flight is not None and self._points is not None:
            self._points.add(flight, record)

    def _draw_rate(self, record: Tokens | ManyTokens) -> None:
        """Under load: of all requests in flight together."""
        if self._points is not None and (rate := self._lane(record).request.tok_s_now()) is not None:
            self._progress(record.method).throughput.add(self._seconds(self._now), rate)

    def _lap(self, start_ns: int, end_ns: int, tok_s: float) -> Lap:
        return Lap(self._seconds(start_ns), self._seconds(end_ns), tok_s)

    def _current_lap(self) -> Lap | None:
        """The timed request that runs, at the rate that it has had until now."""
        begun, tokens = self._shown.request.begun, self._shown.request.tokens
        if begun is None or begun.warmup or not tokens or self._points is not None or self._now <= begun.t:
            return None
        return self._lap(begun.t, self._now, tokens / ((self._now - begun.t) / 1e9))

    def _progress(self, name: str) -> MethodProgress:
        return self._methods.setdefault(name, MethodProgress())

    @property
    def _goal(self) -> Goal:
        return self._goals[-1]

    def _take_goal(self, record: GoalSet) -> None:
        blocks, since = (min(max(least, n), MOST_BLOCKS) for least, n in ((1, record.blocks), (0, record.since)))
        goal = Goal(blocks=blocks, until=record.until, at_most=record.at_most, since=since)
        self._goals = [*self._goals[: record.extension], goal] if record.extension > 0 else [goal]
        self._decided = frozenset()
        self._left.set_goals(self._goals)

    def _take_prepared(self, record: Prepared) -> None:
        self._status = "running"
        self._model_folder = str(record.model.folder)
        if self._open_decoder is not None and self._model_folder:
            for lane in self._lanes:
                lane.request.new_decoder = self._open_decoder(self._model_folder)

    def _start_block(self, record: BlockStarted) -> None:
        self._status = "running"
        self._position, self._of = record.position, record.of
        self._lane(record).start(record)
        self._note_vram()
        gpus = self._plan.gpus_of(record.method, record.block)
        self._readings.start_block(record.method, record.block, record.t, gpus)
        self._left.start_block(record)
        lane = self._plan.lane_of(record.block)
        self._time_line.start_block(record.method, record.block, lane, self._seconds(record.t))
        progress = self._progress(record.method)
        progress.start(record.block)
        progress.state = "import"

    def _enter(self, record: BlockPhase) -> None:
        self._lane(record).phase = record.phase
        self._progress(record.method).state = record.phase
        self._left.enter(record)
        self._time_line.enter(record.method, record.block, record.phase, self._seconds(record.t))
        if record.phase == "load":
            self._readings.start_loading(record.method, record.block, record.t)

    def _end_block(self, record: BlockEnded) -> None:
        self._progress(record.method).end(record)
        self._left.end_block(record)
        self._time_line.end_block(record.method, record.block, self._seconds(record.t))
        if self._lane(record).is_at(record.method, record.block):
            self._readings.end_block(record.method, record.block, record.t)
            self._leave_block(self._lane(record))

    def _cut(self) -> None:
        """The conductor is gone: what has no end yet gets none."""
        self._note_vram()
        for progress in self._methods.values():
            progress.cut()
        self._readings.forget_blocks()
        self._time_line.cut(self._seconds(self._now))
        for lane in self._lanes:
            self._leave_block(lane)

    def _draw_readings(self, record: Telemetry) -> None:
        """From when the session's blocks can begin: what is read before has no place on their axis."""
        if self._started is None:
            return
        for source, metric, _unit, value, t_ns, _call, _status in record.rows:
            if value is not None:
                self._time_line.read(source, metric, value, self._seconds(t_ns))

    def _note_vram(self) -> None:
        """Only when somebody looks, or a block's readings are let go of: they come many times a second."""
        for method, block, peak_bytes in self._readings.vram_peaks():
            self._progress(method).saw_vram(block, peak_bytes)

    def _leave_block(self, lane: LaneProgress) -> None:
        if self._points is not None:
            self._points.leave()
        self._place = None
        lane.leave()

    def _lane(self, record: InLane) -> LaneProgress:
        return self._lanes[self._plan.lane_of(record.block)]

    @property
    def _shown(self) -> LaneProgress:
        """The lane that is looked at: the first that is at work."""
        return next((lane for lane in self._lanes if lane.method is not None), self._lanes[0])

    def snapshot(self, abandoned: bool = False) -> Live:
        """The session as of the last record; `abandoned`: its conductor is gone, and said no end."""
        shown, request = self._shown, self._shown.request
        lanes = [self._lane_live(place) for place in range(self._plan.lanes)] if self._plan.lanes > 1 else []
        self._note_vram()
        figures = {name: progress.figures(abandoned) for name, progress in self._methods.items()}
        if (points := self._points) is not None:  # the ratio is that at the primary point
            figures = {name: replace(own, block_means=points.judged(name)) for name, own in figures.items()}
        left_s, left_most_s = self._left_s(figures)
        return Live(
            session=self._session,
            status="interrupted" if abandoned else self._status,
            error=self._error,
            now_ns=self._now,
            started_ns=self._started,
            elapsed_s=self._seconds(self._now),
            phases=tuple(self._phases.values()),
            notes=tuple(self._notes),
            methods=self._rows(figures),
            method=shown.method,
            block=shown.block,
            block_phase=shown.phase,
            lanes=tuple(lane for lane in lanes if lane is not None),
            position=self._position,
            of=self._of if self._goal.until is None else 0,
            request=request.begun.request if request.begun else None,
            warmup=request.begun.warmup if request.begun else False,
            text=request.text(),
            tokens=request.tokens,
            tok_s_now=request.tok_s_now(),
            lap=self._current_lap(),
            gauges=self._readings.gauges(),
            gpus=self._readings.gpus,
            left_s=left_s,
            left_most_s=left_most_s,
            model_folder=self._model_folder,
            points=tuple(self._points.rows()) if self._points is not None else (),
            point=self._plan.points[self._place].name if self._place is not None else "",
            flights=self._flights(),
            blocks=self._time_line.blocks(),
            tracks=self._time_line.tracks(self._readings.gpus),
        )

    def _lane_live(self, place: int) -> LaneLive | None:
        lane = self._lanes[place]
        gpus = self._plan.gpus_of(lane.method, lane.block) if lane.method and lane.block is not None else slice(0)
        return lane.shown(place, self._readings.gpus[gpus])

    def _seconds(self, t_ns: int) -> float:
        return (t_ns - self._zero) / 1e9

    def _flights(self) -> tuple[FlightLive | None, ...]:
        if self._points is None:
            return ()
        request = self._shown.request
        shown = request.begun
        return tuple(
            FlightLive(
                request=flight.begun.request,
                warmup=flight.begun.warmup,
                tokens=flight.tokens,
                new_tokens=self._plan.new_tokens(min(max(0, flight.begun.place), len(self._plan.points) - 1)),
                looked_into=flight.begun is shown,
            )
            if flight is not None
            else None
            for flight in request.slots()
        )

    def _left_s(self, figures: Mapping[str, MethodFigures]) -> tuple[float | None, float | None]:
        """Estimated seconds until the end, and where that is a range its upper end."""
        if self._status != "running":
            return None, None
        if self._goal.until is None:
            return self._left.seconds(self._now, lambda name, block: self._progress(name).requests_of(block)), None
        return self._left.range_s(self._now, rounds_left(self._plan, self._goal, figures, self._decided))

    def _rows(self, figures: Mapping[str, MethodFigures]) -> tuple[MethodLive, ...]:
        blocks = None if any(goal.until is not None for goal in self._goals) else self._goal.blocks
        requests = self._plan.requests if blocks is None else self._plan.requests_in(blocks)
        ratios = self._ratios(figures)
        verdicts = {name: verdict.kind for name, verdict in zip(ratios, judge(list(ratios.values())), strict=True)}
        return tuple(
            self._methods[method.name].row(
                method,
                blocks,
                requests,
                next((lane.request.tok_s_now() for lane in self._lanes if lane.method == method.name), None),
                figures[method.name],
                ratios.get(method.name),
                verdicts.get(method.name),
                method.name in self._decided,
            )
            for method in self._plan.methods
        )

    def _ratios(self, figures: Mapping[str, MethodFigures]) -> dict[str, LogRatio]:
        """Of each method to its reference, by its name, as a comparison takes them."""
        looks = len(self._goals) > 1 or any(goal.until is not None for goal in self._goals)
        found = {}
        for method in self._plan.methods:
            reference = figures.get(method.reference) if method.reference and method.reference != method.name else None
            ratio = figures[method.name].ratio_to(reference) if reference is not None else None
            if ratio is not None:
                found[method.name] = looked_at(ratio) if looks else ratio
        return found

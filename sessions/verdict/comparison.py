"""Comparison of sessions' methods: a row for each (session, method), each against its reference.

The unit of replication is the block: intervals come from per-block means, ratios from per-block log ratios paired with
the same block of the reference in the same session. Only the last attempt at a block counts, warm-ups never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from methods.models.served import is_served
from methods.models.sources import SYNTHETIC
from sessions.device.device_key import device_key
from sessions.disk.journal import prepared
from sessions.disk.point import ALONE
from sessions.disk.session_folder import UNFINISHED, SessionError, SessionFile
from sessions.disk.slo import Slo
from sessions.disk.store import Store
from sessions.verdict import compared_sessions, neighbours, noise_floor, observer_effect
from sessions.verdict.comparability import differences
from sessions.verdict.compared_sessions import ComparisonFrames
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.fidelity_columns import with_fidelity
from sessions.verdict.hosts import hosts_told
from sessions.verdict.load_figures import load_ratio, slo_of, with_load
from sessions.verdict.load_row import LoadRow
from sessions.verdict.noise_floor import NoiseFloor
from sessions.verdict.one_process import ONE_PROCESS, in_plain_words, not_fresh, of_one_process
from sessions.verdict.result_columns import ResultColumns, columns_of
from sessions.verdict.row_figures import row_of
from sessions.verdict.statistics import LogRatio, unpaired_ratio
from sessions.verdict.stopping import looked_at, noise_sentence
from sessions.verdict.stretches import stretches_told
from sessions.verdict.verdicts import SMALL, Verdict, exploratory, judge, percent

COMPARED_FILES: Final = ("session.json", "runs.parquet", "requests.parquet", "fidelity.parquet")
DATED: Final = "its chat template writes the date or the time into it"


class ComparisonError(Exception):
    """The comparison is invalid; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows in the order asked for, and the settings in which the sessions differ: (setting, {session: value}).

    `refused` names those settings for which the comparison is refused unless asked for anyway. `noise_floors` has a
    line for each device whose floor is known, `observer_effects` one for each of its calibrated methods, `neighbours`
    one for what rounds at once cost each other, by calibration, `noise` one for each method whose ratio could not be
    told apart from 1, and `stretches` one for each session whose rounds are of several days or states of its machine;
    `fidelity_floors` has one for each session that has a floor, `servers` one for each server that ran already, `hosts`
    one for each session of another host; `unscored` are those to which fidelity can be added. `offers` are the rounds
    more, by session, that would probably settle what is open in it.
    """

    rows: tuple[ComparisonRow, ...]
    differences: tuple[tuple[str, dict[str, object]], ...] = ()
    problems: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    noise_floors: tuple[str, ...] = ()
    observer_effects: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    stretches: tuple[str, ...] = ()
    fidelity_floors: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()
    offers: Mapping[str, int] = field(default_factory=dict)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What holds for the whole comparison: when it was measured, noise and noise floors, what measuring costs."""
        return (
            *self.hosts,
            *self.servers,
            *self.stretches,
            *self.noise,
            *self.noise_floors,
            *self.fidelity_floors,
            *self.observer_effects,
            *self.neighbours,
        )

    @property
    def columns(self) -> ResultColumns:
        """The result columns that its rows declare."""
        return columns_of(type(self.rows[0]) if self.rows else ComparisonRow)


@dataclass(frozen=True, slots=True)
class _Against:
    """What a row is compared with: `session` is another one's where the blocks have no partners."""

    session: str
    method: str


def compare(
    store: Store,
    picks: Sequence[tuple[str, str | None]],
    baseline: str | None = None,
    anyway: bool = False,
    row_type: type[ComparisonRow] = ComparisonRow,
    slo: Slo | None = None,
) -> Comparison:
    """Rows for each pick: one method of a session, or with None all its methods.

    `baseline`, METHOD or SESSION:METHOD, replaces the methods' own references; a session without that method is
    compared with the one session here that has it. Sessions that differ in weights, dtype, prompt or sampling are
    refused with ComparisonError unless `anyway`, and then labelled. What cannot be read is a row that says so. The
    columns that a `row_type` declares besides are filled where they are stored.

    Where one of the sessions was measured under load, rows are LoadRows, one for each point, those of a point together;
    `slo` replaces the bounds that the sessions' plans have for goodput.
    """
    base_session, base = _baseline(store, baseline)
    sessions = list(dict.fromkeys([session for session, _ in picks] + ([base_session] if base_session else [])))
    store.fetch(sessions, COMPARED_FILES)
    files: dict[str, SessionFile] = {}
    problems: dict[str, str] = {}
    own: set[str] = set()  # those that can be resumed here
    for session in sessions:
        try:
            folder = store.folder(session)
            files[session] = folder.read()
        except SessionError as error:
            problems[session] = str(error)
            continue
        own.update([session] if folder.is_own else [])
    loads = {session: slo or slo_of(file.plan) for session, file in files.items() if file.plan.has_load}
    if loads and row_type is ComparisonRow:
        row_type = LoadRow
    frames = compared_sessions.load(store, list(files), columns_of(row_type), loads)
    refused, said = differences(
        files,
        {session: _digests(frames, session) for session in files},
    )
    dated = _dated(store, list(files)) if any(name == "prompt" for name, _ in refused) else frozenset()
    refused = [(name, _said_dated(values, dated) if name == "prompt" else values) for name, values in refused]
    if refused and not anyway:
        names = ", ".join(f"{name} ({DATED})" if name == "prompt" and dated else name for name, _ in refused)
        raise ComparisonError(
            f"These sessions differ in {names}, so their numbers are not comparable: use --anyway to compare anyway."
        )
    if base is not None and not any(method == base for _, method, _ in frames.runs):
        raise ComparisonError(f"None of these sessions has the method {base}: --baseline must name one that was run.")
    rows: list[ComparisonRow] = []
    ratios: list[tuple[int, LogRatio, str]] = []
    here = {session: file for session, file in files.items() if session in own}
    floors = _floors(store, here)
    beside = neighbours.beside(store.path.parent, here)
    single = not_fresh(files)
    servers: list[str] = []
    for session, name, point in _wanted(picks, frames, files):
        if session in problems:
            rows.append(row_type(session, name, problem=problems[session]))
            continue
        row = row_of(frames, session, name, row_type, point)
        if isinstance(row, LoadRow):
            key = (session, name, point)
            kept = frames.kept.get(key, {}) if loads.get(session) is not None else None
            row = with_load(replace(row, point=point), frames.runs.get(key, []), files[session].plan, kept)
        against = _against(frames, files, row, point, base_session, base)
        without = (session, name) in single or (against is not None and (against.session, against.method) in single)
        ratio = _ratio(frames, row, point, against) if against and not without else None
        if (session, name) in single:
            row = of_one_process(row)
            servers.append(in_plain_words(row, files[session]))
        if ratio is not None and against is not None and _looked_at(files, session, against.session):
            ratio = looked_at(ratio)
        why_none = "" if ratio is not None else _without_ratio(row, against)
        if without and row.blocks:
            why_none = ONE_PROCESS
        row = replace(
            row,
            reference=against.method if against else row.reference,
            verdict=why_none,
            flags=(*row.flags, *beside.flags(session, name)),
            noise_floor=floors[session].difference if session in floors else None,
        )
        if ratio is not None and against is not None:
            ratios.append((len(rows), ratio, _apart(files, session, against.session)))
        rows.append(row)
    noise: list[str] = []
    judged = [each for each in ratios if _is_judged(rows[each[0]])]
    verdicts = dict(zip((place for place, _, _ in judged), judge([ratio for _, ratio, _ in judged]), strict=True))
    for place, ratio, across in ratios:
        verdict = verdicts.get(place) or exploratory(ratio)
        if verdict.kind == "not apart" and place in verdicts:
            goal = files[rows[place].session].goal if rows[place].session in files else None
            noise.append(noise_sentence(rows[place].method, ratio, (goal.until if goal else None) or SMALL))
        rows[place] = _judged(rows[place], ratio, verdict, across)
    shown, fidelity_floors = with_fidelity(rows, frames, files, store.path.parent)
    return Comparison(
        shown,
        tuple(refused + said),
        tuple(problems.values()),
        tuple(name for name, _ in refused),
        tuple(dict.fromkeys(floor.sentence() for floor in floors.values())),
        _observer_effects(store, files, {row.method for row in rows}),
        beside.sentences(),
        tuple(filter(None, noise)),
        tuple(f"{session}: {told}" for session, file in files.items() if (told := stretches_told(file))),
        fidelity_floors,
        tuple(filter(None, servers)),
        hosts_told(files),
        tuple(session for session, file in here.items() if _is_unscored(frames, session, file)),
        _offers(rows, here),
    )


def _is_unscored(frames: ComparisonFrames, session: str, file: SessionFile) -> bool:
    """Whether fidelity could be added to it: it has ended, was never to have it, and its model has a text."""
    measured = any(figures.requests for key, figures in frames.figures.items() if key[0] == session)
    asked = any(goal.fidelity for goal in file.goals) or any(key[0] == session for key in frames.fidelity)
    without_text = file.plan.model.startswith(SYNTHETIC) or is_served(file.plan.model)
    return measured and not asked and not without_text and file.plan.preset == "quick" and file.status not in UNFINISHED


def _offers(rows: Sequence[ComparisonRow], files: Mapping[str, SessionFile]) -> dict[str, int]:
    """The rounds more by session, of those that have ended."""
    offers: dict[str, int] = {}
    for row in rows:
        if row.more_blocks is not None and row.session in files and files[row.session].status not in UNFINISHED:
            offers[row.session] = max(row.more_blocks, offers.get(row.session, 0))
    return offers


def _baseline(store: Store, baseline: str | None) -> tuple[str | None, str | None]:
    if baseline is None or ":" not in baseline:
        return None, baseline
    session, _, method = baseline.partition(":")
    return store.folder(session).id, method


def _methods(frames: ComparisonFrames, session: str, file: SessionFile) -> list[str]:
    planned = [method.name for method in file.plan.methods]
    ran = frames.methods(session)
    present = [name for name in planned if name in ran] + [name for name in ran if name not in planned]
    return present or planned or [""]


def _digests(frames: ComparisonFrames, session: str) -> tuple[str | None, str | None]:
    for method in frames.methods(session):
        for run in frames.of_method(session, method):
            return run["weights_digest"], run["prompt_digest"]
    return None, None


def _dated(store: Store, sessions: Sequence[str]) -> frozenset[str]:
    """The sessions whose prompt has the date or the time in it."""
    found = {session: prepared(store.folder(session).journal) for session in sessions}
    return frozenset(session for session, each in found.items() if each is not None and each.prompt_dated)


def _said_dated(values: Mapping[str, object], dated: frozenset[str]) -> dict[str, object]:
    return {session: f"{value} ({DATED})" if session in dated else value for session, value in values.items()}


def _floors(store: Store, files: Mapping[str, SessionFile]) -> dict[str, NoiseFloor]:
    known = noise_floor.known(store.path.parent)
    keys = {session: device_key(file.plan, file.machine) for session, file in files.items()}
    return {session: known[key] for session, key in keys.items() if key in known}


def _observer_effects(store: Store, files: Mapping[str, SessionFile], methods: set[str]) -> tuple[str, ...]:
    """The cost of measuring on the devices of these sessions, under their loads."""
    known = observer_effect.known(store.path.parent)
    loads: dict[str, set[int]] = {}  # by device
    for file in files.values():
        in_flight = {point.concurrency for point in file.plan.points if point.concurrency is not None}
        loads.setdefault(device_key(file.plan, file.machine), set()).update(in_flight)
    said = [
        each.sentence()
        for key, own in loads.items()
        for each in observer_effect.quoted(observer_effect.on_device(known, key), methods, own)
    ]
    return tuple(sentence for sentence in said if sentence)


def _wanted(
    picks: Sequence[tuple[str, str | None]], frames: ComparisonFrames, files: Mapping[str, SessionFile]
) -> list[tuple[str, str, str]]:
    """The session, method and point of each row, those of a point together, in the order of the plan."""
    wanted: list[tuple[int, tuple[str, str, str]]] = []
    for session, picked in picks:
        if session not in files:
            wanted.append((0, (session, picked or "", ALONE)))
            continue
        points = [point.name for point in files[session].plan.points]
        for name in [picked] if picked else _methods(frames, session, files[session]):
            known = [*points, *(point for point in frames.points(session, name) if point not in points)]
            wanted += [(place, (session, name, point)) for place, point in enumerate(known)]
    return [each for _, each in sorted(wanted, key=lambda pair: pair[0])]


def _apart(files: Mapping[str, SessionFile], session: str, other: str) -> str:
    """What keeps the blocks of two sessions from being partners; "" where they are one."""
    if session == other:
        return ""
    return "session" if _host(files, session) == _host(files, other) else "host"


def _host(files: Mapping[str, SessionFile], session: str) -> str:
    return files[session].host if session in files else ""


def _against(
    frames: ComparisonFrames,
    files: Mapping[str, SessionFile],
    row: ComparisonRow,
    point: str,
    base_session: str | None,
    base: str | None,
) -> _Against | None:
    """What the row is compared with at its point, None if it has no reference. Another host's method only where its
    session was named."""
    wanted = base or row.reference
    if wanted is None:
        return None
    if base_session is not None:
        return _Against(base_session, wanted)
    if (row.session, wanted, point) not in frames.runs:
        own = _host(files, row.session)
        elsewhere = [key[0] for key in frames.runs if key[1:] == (wanted, point) and _host(files, key[0]) == own]
        if len(elsewhere) == 1:
            return _Against(elsewhere[0], wanted)
    return _Against(row.session, wanted)


def _ratio(frames: ComparisonFrames, row: ComparisonRow, point: str, against: _Against) -> LogRatio | None:
    ours, theirs = (row.session, row.method, point), (against.session, against.method, point)
    own, base = frames.figures.get(ours), frames.figures.get(theirs)
    if own is None or base is None or ours == theirs:
        return None
    if isinstance(row, LoadRow) and row.rate is None:
        return load_ratio(frames.runs[ours], frames.runs[theirs], paired=row.session == against.session)
    if against.session != row.session:
        return unpaired_ratio(list(own.block_means.values()), list(base.block_means.values()))
    return own.ratio_to(base) if against.method != row.method else None


def _is_judged(row: ComparisonRow) -> bool:
    """Whether its verdict is one of those that Holm's procedure counts: under load, at the primary point."""
    return not isinstance(row, LoadRow) or row.primary


def _looked_at(files: Mapping[str, SessionFile], *sessions: str) -> bool:
    """Whether the number of blocks of any of these followed from what they said."""
    return any(session in files and files[session].looked_at for session in sessions)


def _without_ratio(row: ComparisonRow, against: _Against | None) -> str:
    if against is None or against == _Against(row.session, row.method):
        return "the reference" if row.blocks else ""
    return f"no block to compare with {against.method}" if row.blocks else ""


def _judged(row: ComparisonRow, ratio: LogRatio, verdict: Verdict, across: str) -> ComparisonRow:
    decided = verdict.kind in ("faster", "slower")
    interval = ratio.interval()
    flags = list(row.flags)
    if decided and row.noise_floor is not None and abs(ratio.ratio - 1) <= row.noise_floor:
        flags.append(f"within the noise floor: the reference differs by up to {percent(row.noise_floor)} from itself")
    return replace(
        row,
        ratio=ratio.ratio,
        ratio_low=interval.low if interval else None,
        ratio_high=interval.high if interval else None,
        verdict=verdict.sentence + (f" (of another {across}: blocks not paired)" if across else ""),
        flags=tuple(flags),
        more_blocks=None if across else verdict.add,
    )

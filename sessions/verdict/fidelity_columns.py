"""The result columns of fidelity, filled in for the rows of a comparison, with the floors they are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Final

from sessions.device.device_key import device_key
from sessions.disk.session_folder import SessionFile
from sessions.verdict import fidelity_floor
from sessions.verdict.compared_sessions import ComparisonFrames
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.fidelity_figures import PATHS, Figures, Path
from sessions.verdict.fidelity_floor import Floor, Floors
from sessions.verdict.fidelity_verdict import judge, not_measured
from sessions.verdict.fidelity_windows import Scored
from sessions.verdict.fidelity_words import nats

SUFFIX: Final[Mapping[Path, str]] = {"prefill": "", "decode": "_decode"}
WORDS: Final[Mapping[Path, str]] = {"prefill": "prefill", "decode": "decoding"}
UNQUANTISED: Final = ("bfloat16", "float32")


@dataclass(frozen=True, slots=True)
class SessionFloors:
    """By path. `own` ones are from half of the session's windows, so that its methods are judged on the other half."""

    floors: Floors
    own: bool

    def sentence(self, session: str) -> str:
        """What the floors are and where they come from; empty where there are none."""
        said = [f"{nats(floor.nats)} nats a token in {WORDS[path]}" for path, floor in self.floors.items()]
        if not said:
            return ""
        first = next(iter(self.floors.values()))
        where = "on half of the windows; judged is the other half" if self.own else "as calibrated"
        return (
            f"fidelity floor {' and '.join(said)}: {', '.join(first.methods)} against the reference, {where}"
            f" (session {session if self.own else first.session})"
        )


def with_fidelity(
    rows: Sequence[ComparisonRow], frames: ComparisonFrames, files: Mapping[str, SessionFile], home: FilePath
) -> tuple[tuple[ComparisonRow, ...], tuple[str, ...]]:
    """The rows with the columns of fidelity, and a sentence for each session's floor. `home` keeps calibrated ones."""
    scored = {row.session for row in rows if (row.session, row.method) in frames.fidelity}
    if not scored:
        return tuple(rows), ()
    kept = fidelity_floor.known(home)
    floors = {session: floors_of(session, file, frames, kept) for session, file in files.items() if session in scored}
    said = [floors[session].sentence(session) for session in floors]
    told = [_told(row, frames, floors[row.session]) if row.session in floors else row for row in rows]
    return tuple(told), tuple(filter(None, said))


def floors_of(session: str, file: SessionFile, frames: ComparisonFrames, kept: Mapping[str, Floors]) -> SessionFloors:
    """The calibrated floor of the session's model, environment and device, else the one that it shows itself."""
    marked = [method for method in file.plan.methods if method.fidelity_floor]
    weights = next(
        (run["weights_digest"] for name in frames.methods(session) for run in frames.of_method(session, name)), None
    )
    calibrated = fidelity_floor.kept_for(
        kept, device_key(file.plan, file.machine), marked[0].environment if marked else None, weights or ""
    )
    if calibrated is not None:
        return SessionFloors(calibrated, own=False)
    if file.plan.reference_model is not None:  # then no method has the reference's weights
        return SessionFloors({}, own=True)
    names = [method.name for method in marked if _as_the_reference(frames, session, method.name)]
    floors: Floors = {}
    for path in PATHS:
        halves: dict[str, Figures] = {}
        whole: dict[str, Figures] = {}
        judged = 0
        for name in names:
            figures = frames.fidelity.get((session, name), {}).get(path, Scored()).figures
            half, other = (figures.half("even"), figures.half("odd")) if figures else (None, None)
            if figures is not None and half is not None and other is not None:
                halves[name], whole[name] = half, figures
                judged = min(judged or len(other.windows), len(other.windows))
        if (floor := fidelity_floor.floor_of(halves, session, judged, whole)) is not None:
            floors[path] = floor
    return SessionFloors(floors, own=True)


def _as_the_reference(frames: ComparisonFrames, session: str, method: str) -> bool:
    """Whether it ran with unquantised weights, and as it says."""
    runs = frames.of_method(session, method)
    return bool(runs) and all(run["dtype"] in UNQUANTISED and run["in_effect"] is not False for run in runs)


def _told(row: ComparisonRow, frames: ComparisonFrames, floors: SessionFloors) -> ComparisonRow:
    values: dict[str, Any] = {}
    missing = dict(row.missing)
    for path, scored in frames.fidelity.get((row.session, row.method), {}).items():
        suffix = SUFFIX[path]
        floor = floors.floors.get(path)
        values |= {f"{name}{suffix}": value for name, value in _columns(scored, floor, floors.own).items()}
        if values[f"dnll{suffix}"] is None:
            missing[f"dnll{suffix}"] = scored.reason or "its scores are not all finite numbers"
    return replace(row, **values, missing=missing) if values else row


def _columns(scored: Scored, floor: Floor | None, own: bool) -> dict[str, object]:
    """The columns of one path, by their names without a suffix."""
    figures = scored.figures
    if figures is None:
        return {"dnll": None, "fidelity": not_measured(scored.reason).sentence}
    loss, agreed = figures.loss, figures.agreement
    interval = loss.interval() if loss else None
    judged = figures.half("odd") if own and floor is not None else figures
    sentence = judge(figures, judged or figures, floor).sentence
    if scored.reason:
        sentence += f" ({len(figures.windows)} windows alone: {scored.reason})"
    return {
        "dnll": loss.estimate if loss else None,
        "dnll_low": interval.low if interval else None,
        "dnll_high": interval.high if interval else None,
        "perplexity_ratio": figures.perplexity_ratio,
        "top1_agreement": agreed.estimate if agreed else None,
        "fidelity": sentence,
        "fidelity_floor": floor.nats if floor else None,
    }

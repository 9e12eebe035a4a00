"""The fidelity floor from sessions of its own: methods with the reference's weights, in bf16 and in float32.

kasoku calibrate --fidelity
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from methods.catalogue.catalogue import load_catalogue
from sessions.calibrate.calibration_session import CalibrationError
from sessions.device.device_key import device_key
from sessions.disk.option_table import Value
from sessions.disk.plan import Plan
from sessions.disk.session_folder import SessionError
from sessions.disk.store import Store
from sessions.planning.make import make_plan
from sessions.planning.wanted import Wanted
from sessions.verdict import compared_sessions, fidelity_floor
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.fidelity_figures import PATHS, Figures
from sessions.verdict.fidelity_floor import Floors
from sessions.verdict.fidelity_windows import Scored
from sessions.verdict.result_columns import columns_of

PRECISIONS: Final = ("bfloat16", "float32")
AS_FEW: Final[Mapping[str, Value]] = {"requests": 1, "blocks": 1, "warmup": 1, "fidelity": True}


def floor_plans(
    said: Mapping[str, Value | None], command: Sequence[str], home: Path, config_folder: Path
) -> list[Plan]:
    """The sessions that show the floor: all marked methods in bf16, and the first in float32. Raises PlanError."""
    marked = [method for method in load_catalogue(config_folder).methods.values() if method.fidelity_floor]
    names = [method.name for method in marked], [method.name for method in marked if method.reference is None]
    return [
        make_plan(Wanted({**AS_FEW, **said, "dtype": dtype}, methods=own, command=command), home, config_folder)
        for dtype, own in zip(PRECISIONS, names, strict=True)
        if own
    ]


def keep_floors(store: Store, sessions: Sequence[str], home: Path) -> Floors:
    """The floor by path that these sessions show, all windows counted, which is then kept for their model, environment
    and device. Raises CalibrationError where they show none, SessionError and HomeError."""
    frames = compared_sessions.load(store, sessions, columns_of(ComparisonRow))
    files = {session: store.folder(session).read() for session in sessions}
    floors: Floors = {}
    reasons: list[str] = []
    for path in PATHS:
        shown: dict[str, Figures] = {}
        for session, method in ((each, name) for each in sessions for name in frames.methods(each)):
            own = frames.fidelity.get((session, method), {}).get(path, Scored())
            reasons += [own.reason] if own.reason else []
            if own.figures is not None:
                shown[f"{method} in {files[session].plan.dtype}"] = own.figures
        judged = max((len(figures.windows) for figures in shown.values()), default=0)
        if (floor := fidelity_floor.floor_of(shown, sessions[0], judged)) is not None:
            floors[path] = floor
    if not floors:
        why = next(iter(reasons), "no method with the reference's weights was scored")
        raise CalibrationError(f"No fidelity floor can be measured here: {why}.")
    first = files[sessions[0]]
    weights = next((run["weights_digest"] for runs in frames.runs.values() for run in runs), None)
    if weights is None:
        raise SessionError(f"{first.id} does not tell which weights it ran: its floor cannot be kept.")
    key = fidelity_floor.floor_key(device_key(first.plan, first.machine), first.plan.methods[0].environment, weights)
    fidelity_floor.keep(home, key, floors)
    return floors

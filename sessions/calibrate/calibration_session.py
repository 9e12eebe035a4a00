"""What a calibration that runs blocks of its own has: a session below the home's cache, deleted at the end; the
device to itself; and what its method needs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from methods.base.home import CACHE, subfolder
from methods.base.warden import become_subreaper
from sessions.device.affinity import keep_to, shared_out
from sessions.device.device_lock import DeviceLock
from sessions.disk.plan import Plan
from sessions.disk.records import AnyRecord, Prepared
from sessions.disk.session_folder import SessionFolder, create
from sessions.run.preparation_run import PreparationRun

Told = Callable[[str, int, int], None]  # the phase, how many requests are over, how many there are


class CalibrationError(Exception):
    """The calibration failed; the text is the sentence for people."""


@contextmanager
def calibration_session(plan: Plan, home: Path) -> Iterator[tuple[SessionFolder, Path]]:
    """The session's folder, and the home's cache; the device is held meanwhile.

    Raises CalibrationError where another holds it, SessionError, HomeError.
    """
    become_subreaper()
    keep_to(shared_out().workbench)
    cache = subfolder(home, CACHE)
    place = subfolder(cache, "calibrations")
    for left in place.iterdir():  # by one that was killed
        if not any(SessionFolder(path).is_live() for path in left.glob("sessions/*")):
            shutil.rmtree(left, ignore_errors=True)
    folder, lock = create(place / str(os.getpid()) / "sessions", plan)
    devices = DeviceLock(plan.gpu_uuids or [plan.device], "a calibration")
    try:
        if (holder := devices.try_take(cache)) is not None:
            raise CalibrationError(f"The device is in use by {holder}: wait for it to finish, or stop it.")
        yield folder, cache
    finally:
        devices.release()
        os.close(lock)
        shutil.rmtree(place / str(os.getpid()), ignore_errors=True)


def prepared_in(folder: SessionFolder, plan: Plan, append: Callable[[AnyRecord], None], told: Told) -> Prepared:
    """What the plan's one method needs; its records are appended. Raises CalibrationError where it cannot run."""

    def tick() -> str:
        told("preparing", 0, 1)
        return ""

    preparation = PreparationRun(folder, append, tick)
    prepared = preparation.carry_out()
    if prepared is None:
        raise CalibrationError(preparation.error)
    method = plan.methods[0].name
    if (lacking := prepared.unavailable.get(method)) is not None:
        raise CalibrationError(f"{method} cannot run here: {lacking.reason}")
    return prepared

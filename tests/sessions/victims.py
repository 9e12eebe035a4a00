"""The processes of a session, found by who they are, and where the session stands by its journal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

import psutil

from sessions.disk.records import BlockEnded, BlockPhase, BlockStarted, Header, MachineSeen, Phase, SessionEnded
from sessions.disk.session_folder import SessionFolder
from sessions.run.preparation_run import PREPARATION
from tests.sessions.workplace import conductor_now, records_of, runner_of, warden_of

PAUSE_S: Final = 0.03  # looking for a process costs about as much
Finder = Callable[[SessionFolder], psutil.Process | None]


def preparation_warden_of(folder: SessionFolder) -> psutil.Process | None:
    return warden_of(folder, PREPARATION)


def preparation_of(folder: SessionFolder) -> psutil.Process | None:
    warden = preparation_warden_of(folder)
    with contextlib.suppress(psutil.NoSuchProcess):
        children = warden.children() if warden is not None else []
        return children[0] if children else None
    return None


def any_warden_of(folder: SessionFolder) -> psutil.Process | None:
    return warden_of(folder) or preparation_warden_of(folder)


VICTIMS: Final[dict[str, Finder]] = {
    "conductor": conductor_now,
    "preparation": preparation_of,
    "warden": any_warden_of,
    "runner": runner_of,
}


def struck_while_live(folder: SessionFolder, victim: str, number: int) -> tuple[psutil.Process, str] | None:
    """Send a signal to one of VICTIMS as soon as the session has it: who got it, and where the session stood; None
    where the session ended before there was one."""
    while folder.is_live():
        with contextlib.suppress(psutil.Error):
            process = VICTIMS[victim](folder)
            if process is not None:
                stage = stands_at(folder)
                process.send_signal(number)
                return process, stage
        time.sleep(PAUSE_S)
    return None


def stands_at(folder: SessionFolder) -> str:
    """The phase that the journal's last telling line speaks of."""
    stage = "before its first line"
    for record in records_of(folder):
        match record:
            case Header():
                stage = "begun"
            case Phase():
                stage = "preparation"
            case MachineSeen() | BlockEnded():
                stage = "between blocks"
            case BlockStarted():
                stage = "block begun"
            case BlockPhase():
                stage = record.phase
            case SessionEnded():
                stage = "writing frames"
            case _:
                pass
    return stage

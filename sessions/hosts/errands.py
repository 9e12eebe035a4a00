"""What a host does for whoever is at another machine: `python kasoku.py sessions.hosts.errands VERB`, JSON in and out.

A process of its own that ends with its answer, so that Ray is not above a conductor that it starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Final

import msgspec

from methods.base.home import SESSIONS, HomeError, config_folder, home
from methods.base.interpreter import Interpreter
from methods.base.user_path import PathError
from methods.environments import environments
from methods.environments.creation import CreationError
from methods.models.prompts import PromptError
from probes.gpu.nvml import Nvml
from sessions.close.session_end import recover
from sessions.device.devices import DeviceError, choose
from sessions.device.doctor import findings
from sessions.disk.extension import Extension
from sessions.disk.option_table import OptionError
from sessions.disk.plan import Plan
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import ID_PATTERN, SessionError, SessionFolder
from sessions.disk.store import Store
from sessions.hosts.messages import (
    About,
    Begun,
    DoctorAsked,
    Examined,
    Found,
    MoreAsked,
    Planned,
    Refused,
    RunAsked,
    StartAsked,
)
from sessions.planning.make import make_plan
from sessions.planning.offer import Offer, offer_on
from sessions.planning.wanted import PlanError, Wanted
from sessions.run.launch import extend, launch, resume


def kasoku_version() -> str:
    """Of the Kasoku that runs this."""
    try:
        return metadata.version("kasoku")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def about(_: bytes) -> About:
    """Which Kasoku this is."""
    return About(version=kasoku_version(), schema=SCHEMA_VERSION)


def plan(asked: bytes) -> Planned:
    """What would be run here. Raises PlanError."""
    wanted = msgspec.json.decode(asked, type=RunAsked)
    made = make_plan(Wanted(wanted.said, methods=wanted.methods, command=wanted.command), home(), config_folder())
    return Planned(plan=msgspec.json.format(msgspec.json.encode(made), indent=1).decode())


def start(asked: bytes) -> Begun:
    """Begin a session. Raises SessionError."""
    wanted = msgspec.json.decode(asked, type=StartAsked)
    folder = launch(home(), msgspec.json.decode(wanted.plan, type=Plan), wanted.session)
    return Begun(folder=str(folder.path), status="preparing", begun=True)


def find(asked: bytes) -> Begun:
    """Look for a session, and finalise it where its conductor is gone. Raises SessionError."""
    folder = _folder(msgspec.json.decode(asked, type=MoreAsked).session)
    return Begun(folder=str(folder.path), status=folder.read().status if folder.is_live() else recover(folder))


def more(asked: bytes) -> Begun:
    """Resume or extend a session; one that is at work is left so. Raises SessionError, OptionError."""
    wanted = msgspec.json.decode(asked, type=MoreAsked)
    folder = _folder(wanted.session)
    extension = Extension.of(wanted.said) if wanted.said is not None else None
    if folder.is_live() and extension is None:
        return Begun(folder=str(folder.path), status=folder.read().status)
    recover(folder)
    if extension is not None:
        extend(folder, extension, home())
        begun = True
    else:
        begun = resume(folder, home())
    return Begun(folder=str(folder.path), status=folder.read().status, begun=begun)


def doctor(asked: bytes) -> Examined:
    """What can be run here and what is missing, after the environments that were asked for were made."""
    device = choose(None, Nvml())
    wanted = msgspec.json.decode(asked, type=DoctorAsked).create
    made = [] if wanted is None else _made(wanted or _of_presets(offer_on(device, home(), config_folder())))
    said = {}
    for name, row in offer_on(device, home(), config_folder()).choices.items():
        lacks = row.unavailable
        said[name] = "" if lacks is None else f"{lacks.reason} {lacks.remedy}".strip()
    seen = [Found(level=each.level, text=each.text, remedy=each.remedy) for each in findings(home(), config_folder())]
    return Examined(device=device.name, methods=said, findings=[*made, *seen])


def _of_presets(offer: Offer) -> list[str]:
    """The environments of the presets' methods on this device."""
    return sorted({row.environment for row in offer.choices.values() if row.method.presets and row.lacking is None})


def _made(names: Iterable[str]) -> list[Found]:
    """Make those of the environments that are not there; a finding for each that was made, or could not be."""
    found = []
    for name in names:
        try:
            if isinstance(environments.resolve(name, home(), config_folder()), Interpreter):
                continue
            environments.create(name, home(), config_folder())
            found.append(Found(level="ok", text=f"The environment {name} was created."))
        except (CreationError, environments.EnvironmentProblemError, HomeError) as error:
            found.append(Found(level="problem", text=f"The environment {name} cannot be created: {error}"))
    return found


def _folder(session: str) -> SessionFolder:
    if not ID_PATTERN.fullmatch(session) or not os.path.isdir(home() / SESSIONS / session):
        raise SessionError(f"There is no session {session[:100]} in {home()}.")
    return Store(home() / SESSIONS).folder(session)


VERBS: Final[dict[str, Callable[[bytes], msgspec.Struct]]] = {
    "about": about,
    "plan": plan,
    "start": start,
    "find": find,
    "more": more,
    "doctor": doctor,
}
SENTENCES: Final = (
    PlanError, PromptError, SessionError, OptionError, HomeError, PathError, DeviceError, msgspec.DecodeError
)  # fmt: skip


def main(arguments: list[str]) -> int:
    asked = sys.stdin.buffer.read()
    try:
        answer: msgspec.Struct = VERBS[arguments[0]](asked)
    except SENTENCES as error:
        answer = Refused(error=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.buffer.flush()
    return 0

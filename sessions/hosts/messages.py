"""What goes to a host and comes back from it, beside the bytes of a session's files: one JSON object each."""

from __future__ import annotations

import msgspec

from sessions.disk.option_table import Value


class RunAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a run by name, as they were said here; paths among them are the host's."""

    said: dict[str, Value]
    methods: list[str] = []
    command: list[str] = []


class StartAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Begin the session with this ID and plan.json."""

    session: str
    plan: str


class MoreAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Resume a session, or extend it by what was said of the options of an extension."""

    session: str
    said: dict[str, Value | None] | None = None


class DoctorAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Look at the host, after the environments `create` were made where it lacks them: all that the presets need there
    if none is named, and nothing if that is None."""

    create: list[str] | None = None


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The Kasoku of a host: its version, and that of what it writes."""

    version: str
    schema: int


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """plan.json as it would be on the host."""

    plan: str


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A session's folder on the host, and its status; `begun` says whether a conductor was started for it."""

    folder: str
    status: str
    begun: bool = False


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A finding of `kasoku doctor` there."""

    level: str
    text: str
    remedy: str = ""


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What a host can run (by method: why it cannot, "" where it can), and what disturbs measurements there."""

    device: str
    methods: dict[str, str]
    findings: list[Found]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The sentence that says why not."""

    error: str

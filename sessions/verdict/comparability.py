"""Whether sessions are comparable: the same weights in the same dtype, the same prompt, sampling and length.

Differences there are refused unless asked for; a different device, number of threads, machine or surroundings is merely
noted, since to compare those is a purpose of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import msgspec

from sessions.device.differences import differences as differences_of_places
from sessions.device.differences import place_of
from sessions.disk.plan import Plan
from sessions.disk.session_folder import SessionFile

REFUSED: Final = ("dtype", "weights", "prompt", "sampling")
SAID: Final = ("model", "device", "threads")

Differences = list[tuple[str, dict[str, object]]]


def differences(
    files: Mapping[str, SessionFile], digests: Mapping[str, tuple[str | None, str | None]]
) -> tuple[Differences, Differences]:
    """The settings in which sessions differ, as (setting, {session: value}): those refused, and those merely noted.

    `digests` are a session's weights and prompt ids as measured; where a session has none, what its plan says stands.
    """
    plans = {session: file.plan for session, file in files.items()}
    asked = {session: _settings(plan) for session, plan in plans.items()}
    for place, name in ((0, "weights"), (1, "prompt")):
        measured = {session: digests.get(session, (None, None))[place] for session in plans}
        if all(measured.values()):
            shown = {session: settings[name] for session, settings in asked.items()}
            same_words = len({json.dumps(value, sort_keys=True, default=str) for value in shown.values()}) == 1
            for session, digest in measured.items():
                said = shown[session]
                words = said if isinstance(said, str) else json.dumps(said)
                asked[session][name] = _Value(digest or "", f"{digest:.12}…" if same_words else words)
    found: list[Differences] = []
    for names in (REFUSED, SAID):
        rows: Differences = []
        for name in names:
            values = {session: settings[name] for session, settings in asked.items()}
            if len({_key(value) for value in values.values()}) > 1:
                rows.append((name, {session: _shown(value) for session, value in values.items()}))
        found.append(rows)
    return found[0], [*found[1], *differences_of_places({session: place_of(file) for session, file in files.items()})]


class _Value:
    """Compared by digest, shown in words."""

    def __init__(self, digest: str, words: str) -> None:
        self.digest, self.words = digest, words


def _settings(plan: Plan) -> dict[str, object]:
    prompt = {"prompt": plan.prompt, "prompt_tokens": plan.prompt_tokens, "template": plan.template}
    return {
        "dtype": plan.dtype,
        "weights": plan.model,
        "model": plan.model,
        "prompt": {name: value for name, value in prompt.items() if value is not None},
        "sampling": msgspec.to_builtins(plan.sampling),
        "device": plan.device_name or plan.device,
        "threads": plan.threads,
    }


def _key(value: object) -> str:
    return value.digest if isinstance(value, _Value) else json.dumps(value, sort_keys=True, default=str)


def _shown(value: object) -> object:
    return value.words if isinstance(value, _Value) else value

"""Whether sessions' numbers may stand side by side: the same weights in the same type, asked the same, at one length.

What differs there is refused unless asked for; a device or a number of threads that differs is only said, since to
compare those is a purpose of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

REFUSED: Final = ("dtype", "weights", "prompt", "sampling")
SAID: Final = ("model", "device", "threads")

Differences = list[tuple[str, dict[str, Any]]]


def differences(
    plans: Mapping[str, Mapping[str, Any]], digests: Mapping[str, tuple[str | None, str | None]]
) -> tuple[Differences, Differences]:
    """The settings in which sessions differ, as (setting, {session: value}): those refused, and those only said.

    `digests` are a session's weights and prompt ids as measured; where a session has none, what its plan says stands.
    """
    asked = {session: _settings(plan) for session, plan in plans.items()}
    for place, name in ((0, "weights"), (1, "prompt")):
        measured = {session: digests.get(session, (None, None))[place] for session in plans}
        if all(measured.values()):
            shown = {session: settings[name] for session, settings in asked.items()}
            same_words = len({json.dumps(value, sort_keys=True, default=str) for value in shown.values()}) == 1
            for session, digest in measured.items():
                words = shown[session] if isinstance(shown[session], str) else json.dumps(shown[session])
                asked[session][name] = _Value(digest or "", f"{digest:.12}…" if same_words else words)
    found: list[Differences] = []
    for names in (REFUSED, SAID):
        rows: Differences = []
        for name in names:
            values = {session: settings[name] for session, settings in asked.items()}
            if len({_key(value) for value in values.values()}) > 1:
                rows.append((name, {session: _shown(value) for session, value in values.items()}))
        found.append(rows)
    return found[0], found[1]


class _Value:
    """Compared by its digest, shown in words."""

    def __init__(self, digest: str, words: str) -> None:
        self.digest, self.words = digest, words


def _settings(plan: Mapping[str, Any]) -> dict[str, Any]:
    prompt = {name: plan.get(name) for name in ("prompt", "prompt_tokens", "template") if plan.get(name) is not None}
    return {
        "dtype": plan.get("dtype"),
        "weights": plan.get("model"),
        "model": plan.get("model"),
        "prompt": prompt,
        "sampling": plan.get("sampling"),
        "device": plan.get("device_name") or plan.get("device"),
        "threads": plan.get("threads"),
    }


def _key(value: object) -> str:
    return value.digest if isinstance(value, _Value) else json.dumps(value, sort_keys=True, default=str)


def _shown(value: object) -> Any:
    return value.words if isinstance(value, _Value) else value

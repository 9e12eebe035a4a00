"""The user's settings for the workbench: settings.toml in the config folder.

theme = "kasoku-light"
mouse = false
fps = 8            # live frames a second, 1 to 15
columns = ["tok_s_mean", "ratio"]  # Compare's table, and what it is sorted by
sort = "tok_s_mean:desc"

[keymap]
"run.stop" = "x"   # the ids are on the help screen

[hosts]            # for --on: the name of a host, and what of the cluster it alone has
h100 = "accelerator_type:H100"
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from methods.base.bounded_read import read_regular
from methods.base.home import HomeError, private_folder, write_atomically

FILE: Final = "settings.toml"
FPS_LEAST, FPS_MOST, FPS_USUAL = 1.0, 15.0, 12.0
KNOWN: Final = ("theme", "mouse", "fps", "columns", "sort", "keymap", "hosts")
VALUE: Final = r"""(?:"[^"]*"|'[^']*'|\[[^\[\]]*\])"""
TABLE_LINE: Final = re.compile(r"^\s*\[")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose. `theme` is checked by the app, which knows the themes; `fps` is live frames a second.

    `columns` and `sort` are those of Compare's table, as `TableChoice.of` takes them.
    """

    theme: str | None = None
    mouse: bool = True
    fps: float = FPS_USUAL
    columns: tuple[str, ...] = ()
    sort: str = ""
    keymap: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)


def load_settings(config: Path) -> tuple[Settings, tuple[str, ...]]:
    """The settings, and a sentence for each invalid part of the file, which is ignored."""
    path = config / FILE
    try:
        read = tomllib.loads(read_regular(path).decode())
    except FileNotFoundError:
        return Settings(), ()
    except (OSError, ValueError, RecursionError) as error:  # a ValueError also where a number is too long for Python
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Settings(), (f"{path} was ignored: it cannot be read as TOML ({reason}).",)
    settings, problems = Settings(), []
    for key, value in read.items():
        match key, value:
            case "theme", str():
                settings = replace(settings, theme=value)
            case "mouse", bool():
                settings = replace(settings, mouse=value)
            case "fps", int() | float() if not isinstance(value, bool) and FPS_LEAST <= value <= FPS_MOST:
                settings = replace(settings, fps=float(value))
            case "keymap", dict():
                keys = {name: keys for name, keys in value.items() if isinstance(keys, str) and keys.strip()}
                problems += [
                    f'In {path} the key of {name!r} was ignored: it must be a name such as "x" or "ctrl+s".'
                    for name in value.keys() - keys.keys()
                ]
                settings = replace(settings, keymap=keys)
            case "hosts", dict():
                hosts = {name: resource for name, resource in value.items() if isinstance(resource, str)}
                problems += [
                    f"In {path} the host {name!r} was ignored: it must be the name of a resource, as text."
                    for name in value.keys() - hosts.keys()
                ]
                settings = replace(settings, hosts=hosts)
            case "columns", list() if all(isinstance(name, str) for name in value):
                settings = replace(settings, columns=tuple(value))
            case "sort", str():
                settings = replace(settings, sort=value)
            case "fps", _:
                problems.append(f"In {path} fps was ignored: it must be a number from {FPS_LEAST:g} to {FPS_MOST:g}.")
            case (("theme" | "mouse" | "columns" | "sort" | "keymap" | "hosts"), _):
                kind = {
                    "theme": "a name",
                    "mouse": "true or false",
                    "columns": 'a list of names, such as ["tok_s_mean", "ratio"]',
                    "sort": 'a name, such as "tok_s_mean" or "tok_s_mean:desc"',
                    "keymap": "a table",
                    "hosts": "a table",
                }[key]
                problems.append(f"In {path} {key} was ignored: it must be {kind}.")
            case _:
                problems.append(f"In {path} {key!r} was ignored: it is not a setting (known: {', '.join(KNOWN)}).")
    return settings, tuple(problems)


def save_settings(config: Path, what: str, chosen: Mapping[str, str | list[str]]) -> str:
    """Write these into the file, leaving the rest unchanged; the sentence that says why not, or "".

    `what` they are begins the sentence: "The theme was". A file that is broken, or that its user made read-only, is
    left alone.
    """
    path = Path(os.path.realpath(config / FILE))  # where it is a link, into someone's dotfiles say, that stays one
    not_kept = f"{what} not saved: {path}"
    try:
        before = read_regular(path).decode()
        kept = tomllib.loads(before)
        writable = os.access(path, os.W_OK) and path.stat().st_mode & 0o222
    except FileNotFoundError:
        before, kept, writable = "", {}, True
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{not_kept} cannot be read as TOML ({reason})."
    if not writable:
        return f"{not_kept} is read-only."
    new = {key: value for key, value in chosen.items() if kept.get(key, type(value)()) != value}
    if not new:
        return ""
    after = before
    for key, value in reversed(new.items()):
        after = _with_setting(after, key, value)
    try:
        sound = tomllib.loads(after) == {**kept, **new}
    except tomllib.TOMLDecodeError:
        sound = False
    if not sound:
        lines = " and ".join(f"{key} = {json.dumps(value)}" for key, value in new.items())
        return f"{not_kept} has {' and '.join(new)} in a form Kasoku cannot edit: write {lines} there."
    try:
        private_folder(path.parent)
        write_atomically(path, after.encode())
    except HomeError as error:
        return f"{what} not saved. {error}"
    return ""


def _with_setting(text: str, key: str, value: str | list[str]) -> str:
    """The file's text with this setting: in the line that has it already, else in a line of its own at the top."""
    own = re.compile(rf"""^(?P<key>\s*(?:{key}|"{key}"|'{key}')\s*=\s*){VALUE}(?P<rest>.*)$""")
    lines = text.splitlines(keepends=True)
    for place, line in enumerate(lines):
        if TABLE_LINE.match(line):
            break
        content = line.rstrip("\r\n")
        if found := own.match(content):
            lines[place] = f"{found['key']}{json.dumps(value)}{found['rest']}{line[len(content) :]}"
            return "".join(lines)
    return "".join([f"{key} = {json.dumps(value)}\n", *lines])

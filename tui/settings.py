"""The user's settings for the workbench: settings.toml in the config folder.

theme = "kasoku-light"
mouse = false
fps = 8            # live frames a second, 1 to 15

[keymap]
"run.stop" = "x"   # the ids are on the help screen
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
THEME_LINE: Final = re.compile(r"""^(?P<key>\s*(?:theme|"theme"|'theme')\s*=\s*)(?:"[^"]*"|'[^']*')(?P<rest>.*)$""")
TABLE_LINE: Final = re.compile(r"^\s*\[")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose. `theme` is checked by the app, which knows the themes; `fps` is live frames a second."""

    theme: str | None = None
    mouse: bool = True
    fps: float = FPS_USUAL
    keymap: Mapping[str, str] = field(default_factory=dict)


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
            case "fps", _:
                problems.append(f"In {path} fps was ignored: it must be a number from {FPS_LEAST:g} to {FPS_MOST:g}.")
            case (("theme" | "mouse" | "keymap"), _):
                kind = {"theme": "a name", "mouse": "true or false", "keymap": "a table"}[key]
                problems.append(f"In {path} {key} was ignored: it must be {kind}.")
            case _:
                problems.append(
                    f"In {path} {key!r} was ignored: it is not a setting (known: theme, mouse, fps, keymap)."
                )
    return settings, tuple(problems)


def save_theme(config: Path, theme: str) -> str:
    """Write the theme into the file, leaving the rest unchanged; the sentence that says why not, or "".

    A file that is broken, or that its user made read-only, is left alone.
    """
    path = Path(os.path.realpath(config / FILE))  # where it is a link, into someone's dotfiles say, that stays one
    not_kept = f"The theme was not saved: {path}"
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
    if kept.get("theme") == theme:
        return ""
    after = _with_theme(before, theme)
    try:
        sound = tomllib.loads(after) == {**kept, "theme": theme}
    except tomllib.TOMLDecodeError:
        sound = False
    if not sound:
        return f"{not_kept} sets its theme in a form Kasoku cannot edit: write theme = {json.dumps(theme)} there."
    try:
        private_folder(path.parent)
        write_atomically(path, after.encode())
    except HomeError as error:
        return f"The theme was not saved. {error}"
    return ""


def _with_theme(text: str, theme: str) -> str:
    """The file's text with this theme: in the line that has one already, else in a line of its own at the top."""
    lines = text.splitlines(keepends=True)
    for place, line in enumerate(lines):
        if TABLE_LINE.match(line):
            break
        content = line.rstrip("\r\n")
        if found := THEME_LINE.match(content):
            lines[place] = f"{found['key']}{json.dumps(theme)}{found['rest']}{line[len(content) :]}"
            return "".join(lines)
    return "".join([f"theme = {json.dumps(theme)}\n", *lines])

"""What ends a user's processes at logout: systemd-logind, if configured to, and the user's own service manager.

A login's processes are in its session's scope. With KillUserProcesses=yes logind ends that scope at logout, lingering
or not (logind.conf(5)). What runs below the user's service manager instead, a desktop's terminal for one, ends with
that manager at the user's last logout, unless the user lingers (loginctl(1)).
"""

from __future__ import annotations

import configparser
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Where systemd reads logind.conf and logind.conf.d/*.conf; of a file that several of these have, the last one's counts.
FOLDERS: Final = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
LOGIN_SCOPE: Final = re.compile(r"/session-[^/\n]+\.scope")
YES: Final = ("1", "yes", "y", "true", "t", "on")


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a process started here would end at logout, and what to do about it."""

    cause: str
    remedy: str


def ending_at_logout(root: Path = Path("/"), user: str | None = None) -> Ending | None:
    """What would end this process at logout; None if nothing would, or if unknown.

    `root` is where the system's files are, `user` the name that logind knows (default: who runs this).
    """
    if not os.path.isdir(root / "run/systemd/system"):  # sd_booted(3)
        return None
    name = user if user is not None else _user()
    lingers = os.path.exists(root / "var/lib/systemd/linger" / name)
    groups = _read(root / "proc/self/cgroup")
    if LOGIN_SCOPE.search(groups):
        if not kills_user_processes(root, name):
            return None
        first = "" if lingers else "loginctl enable-linger, then "
        return Ending(
            "logind ends a login's processes at logout (KillUserProcesses=yes).",
            f"{first}systemd-run --user --scope kasoku run …, or KillUserProcesses=no in logind.conf",
        )
    if "/user@" in groups and not lingers:
        return Ending(
            "Your service manager ends at your last logout with everything below it.", "loginctl enable-linger"
        )
    return None


def kills_user_processes(root: Path, user: str) -> bool:
    """Whether logind, as its files configure it, ends this user's processes at logout. By default it does not."""
    settings = {"killuserprocesses": "no", "killonlyusers": "", "killexcludeusers": "root"}
    for path in _files(root):
        parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
        try:
            parser.read_string(_read(path))
        except configparser.Error:
            continue
        for key, value in parser.items("Login") if parser.has_section("Login") else ():
            if key == "killuserprocesses":
                settings[key] = value or ""
            elif key in settings:  # a list grows from file to file, until an empty assignment clears it
                settings[key] = f"{settings[key]} {value}" if value else ""
    only, exclude = settings["killonlyusers"].split(), settings["killexcludeusers"].split()
    told = settings["killuserprocesses"].strip().lower() in YES
    return told and user not in exclude and (not only or user in only)


def _files(root: Path) -> list[Path]:
    """In the order in which they count: the main file, then the drop-ins by name; `/etc` masks what the others have."""
    mains = [path for folder in FOLDERS if os.path.isfile(path := root / folder / "logind.conf")]
    dropped: dict[str, Path] = {}
    for folder in FOLDERS:
        inside = root / folder / "logind.conf.d"
        if os.path.isdir(inside):
            dropped |= {path.name: path for path in inside.iterdir() if path.name.endswith(".conf")}
    return mains[-1:] + [dropped[name] for name in sorted(dropped)]


def _read(path: Path) -> str:
    """A file's text; a link to /dev/null, which masks a drop-in, is empty, and so is what cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())

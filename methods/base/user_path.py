"""A path that a user named: read as a shell would, made absolute, and looked at.

pathlib raises where a path may not be looked at and where its name is too long; here that is a sentence.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Literal

Kind = Literal["absent", "file", "folder", "other"]


class PathError(Exception):
    """The path cannot be used. The text is one sentence for the user."""


def user_folder() -> str:
    """The user's own folder: $HOME, else what passwd says; "" where there is none."""
    named = os.environ.get("HOME")
    if named:
        return named if Path(named).is_absolute() else ""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def named_path(text: str | os.PathLike[str]) -> Path:
    """The path as written, with `~` expanded; `~name` of an unknown user stays as it is."""
    written = os.fspath(text)
    if written == "~" or written.startswith("~/"):
        return Path((user_folder() or "~") + written[1:])
    return Path(os.path.expanduser(written))  # noqa: PTH111 - pathlib raises where there is nobody of that name


def absolute(text: str | os.PathLike[str]) -> Path:
    """The same as an absolute path, its links kept. PathError where that takes a folder that is not there: the current
    one for a relative path, the user's own for `~`."""
    path = named_path(text)
    if path.parts[:1] == ("~",):
        raise PathError(f"{text} means a folder in your home folder, and you have none here: name an absolute path.")
    try:
        return path.absolute()
    except OSError:
        raise PathError(
            f"{path} is relative, and the current folder is gone: change to one that exists, or name an absolute path."
        ) from None


def storable(path: Path) -> Path:
    """The path, if plans and journals, which are UTF-8, can hold it. Raises PathError."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise PathError(f"{shown} is not UTF-8, as a session stores paths: rename it, or reach it by a link.") from None
    return path


def kind(path: Path) -> Kind:
    """What is there, links followed: `other` is a device, a pipe or a socket. PathError where that cannot be seen."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except OSError as error:
        raise PathError(f"{path} cannot be read: {reason(error)}.") from None
    except ValueError:
        raise PathError(f"{str(path)[:200]!r} is not a path.") from None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def reason(error: OSError) -> str:
    """What the system said, as part of a sentence."""
    return (error.strerror or str(error)).lower()

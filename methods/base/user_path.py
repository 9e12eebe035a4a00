"""A path that a user named: read as a shell would, made absolute, and looked at.

pathlib raises where a path may not be looked at and where its name is too long; here that is a sentence.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

Kind = Literal["absent", "file", "folder", "other"]


class PathError(Exception):
    """The path cannot be used. The text is one sentence for the user."""


def named_path(text: str | os.PathLike[str]) -> Path:
    """The path as written, with `~` expanded; `~name` of an unknown user stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib raises where there is nobody of that name


def absolute(text: str | os.PathLike[str]) -> Path:
    """The same as an absolute path, its links kept. PathError where it is relative and the current folder is gone."""
    path = named_path(text)
    try:
        return path.absolute()
    except OSError:
        raise PathError(
            f"{path} is relative, and the current folder is gone: change to one that exists, or name an absolute path."
        ) from None


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

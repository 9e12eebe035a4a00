"""Where Kasoku keeps things, for the user alone: the home (what it made), the config folder (what the user wrote)."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Final

from methods.base.user_path import PathError, absolute, reason, storable, user_folder

SESSIONS, ENVIRONMENTS, MODELS, CACHE = "sessions", "environments", "models", "cache"
# What a file system that has no fsync of folders says, and one whose folder may be written into but not read.
NO_FOLDER_SYNC: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)


class HomeError(PathError):
    """Kasoku cannot store its files in the configured place. The text is one sentence for the user."""


def home() -> Path:
    """`$KASOKU_HOME`, else `kasoku` in the user's data folder; absolute, and not created yet. Raises HomeError."""
    return _place("KASOKU_HOME", "XDG_DATA_HOME", ".local/share")


def config_folder() -> Path:
    """`$KASOKU_CONFIG`, else `kasoku` in the user's config folder; absolute, not created yet. Raises HomeError."""
    return _place("KASOKU_CONFIG", "XDG_CONFIG_HOME", ".config")


def _place(variable: str, standard: str, below: str) -> Path:
    if named := os.environ.get(variable):
        try:
            return storable(absolute(named))
        except PathError as error:
            raise HomeError(f"{variable}: {error}") from None
    given = os.environ.get(standard, "")
    if Path(given).is_absolute():  # relative ones are invalid, as the XDG specification says, and ignored
        return Path(given) / "kasoku"
    user = user_folder()
    if not user:
        raise HomeError(f"You have no home folder here: set {variable} to the absolute path of a folder of yours.")
    return Path(user) / below / "kasoku"


def private_folder(path: Path, *, within: Path | None = None) -> Path:
    """Make `path` and its missing parents, each for the user alone (0700); HomeError when nothing can be written there.

    Parents that exist already, the user's own data folder for instance, keep their permissions. `within` must be
    there: what was moved away meanwhile is not made a second time.
    """
    if within is not None and not os.path.isdir(within):
        raise HomeError(f"{within} is gone: it was moved or removed meanwhile.")
    try:
        missing = []
        folder = path
        while not os.path.isdir(folder):
            missing.append(folder)
            if folder.parent == folder:
                break
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)  # mkdir's mode passes through the umask
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(path))
    except OSError as error:
        raise HomeError(_sentence(path, error)) from error
    return path


def subfolder(home_folder: Path, name: str) -> Path:
    """`sessions/`, `environments/`, `models/` or `cache/` of the home, created when it does not exist."""
    private_folder(home_folder)
    return private_folder(home_folder / name)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file of Kasoku's own atomically, for the user alone (0600): it is complete or absent, even after a power
    cut. What is at `path` is replaced, whatever it is. Raises HomeError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        handle = os.open(temporary, flags, 0o600)
    except OSError as error:
        raise HomeError(_sentence(path.parent, error)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise HomeError(_sentence(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def fsync_folder(path: Path) -> None:
    """Make a rename inside `path` durable, as far as its file system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _sentence(path: Path, error: OSError) -> str:
    return (
        f"Kasoku cannot write to {path}: {reason(error)}; make it writable, or set KASOKU_HOME (files it makes) "
        "or KASOKU_CONFIG (your settings) to a folder that is."
    )

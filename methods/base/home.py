"""Where Kasoku keeps things, for the user alone: the home (what it made), the config folder (what the user wrote)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import platformdirs

SESSIONS, ENVIRONMENTS, MODELS, CACHE = "sessions", "environments", "models", "cache"


class HomeError(Exception):
    """Kasoku cannot store its files in the configured place. The text is one sentence for the user."""


def home() -> Path:
    """`$KASOKU_HOME`, else the platform's data folder; not created yet."""
    named = os.environ.get("KASOKU_HOME")
    return named_path(named).absolute() if named else platformdirs.user_data_path("kasoku")


def config_folder() -> Path:
    """`$KASOKU_CONFIG`, else the platform's config folder; not created yet."""
    named = os.environ.get("KASOKU_CONFIG")
    return named_path(named).absolute() if named else platformdirs.user_config_path("kasoku")


def named_path(text: str | os.PathLike[str]) -> Path:
    """A path as written by the user: `~` is expanded; `~name` of an unknown user stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib raises where there is nobody of that name


def private_folder(path: Path) -> Path:
    """Make `path` and its missing parents, each for the user alone (0700); HomeError when nothing can be written there.

    Parents that exist already, the user's own data folder for instance, keep their permissions.
    """
    try:
        missing = []
        folder = path
        while not folder.is_dir():
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


def write_atomically(path: Path, content: bytes, *, private: bool = True) -> None:
    """Write a file atomically: it is complete or absent, even after a power cut.

    It is the user's alone (0600); not `private`, it follows the umask: for files requested outside the home.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        handle = os.open(temporary, flags, 0o600 if private else 0o666)
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
    """Make a rename inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sentence(path: Path, error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    return (
        f"Kasoku cannot write to {path}: {reason}; make it writable, or set KASOKU_HOME (files it makes) "
        "or KASOKU_CONFIG (your settings) to a folder that is."
    )

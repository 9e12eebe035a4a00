"""Folders created atomically: filled under a temporary name and a lock, and renamed once complete."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from methods.base import file_lock
from methods.base.home import fsync_folder, private_folder

MAKING, REMOVING = ".making-", ".removing-"


def lock_of(root: Path, name: str) -> Path:
    """The lock under which the folder `name` in `root` is made and removed."""
    return root / f".lock-{name}"


@contextmanager
def made(root: Path, name: str) -> Iterator[Path]:
    """A new folder to fill: it becomes `root/name` if the block ends without an exception, and is deleted otherwise.

    The lock of `name` must be held. An earlier `root/name` is removed, and so are leftovers of interrupted attempts.
    """
    final = root / name
    if os.path.exists(final):
        delete(final)
    for leftover in leftovers(root):
        if meant_for(leftover) == name:
            shutil.rmtree(leftover, ignore_errors=True)
            continue
        with file_lock.held_if_free(lock_of(root, meant_for(leftover))) as free:
            if free:
                shutil.rmtree(leftover, ignore_errors=True)
    making = private_folder(root / (MAKING + name))
    try:
        yield making
        making.rename(final)
        fsync_folder(root)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def delete(folder: Path) -> None:
    """Remove a folder so that it never looks complete halfway. Its lock must be held."""
    doomed = folder
    if not folder.name.startswith((MAKING, REMOVING)):
        doomed = folder.with_name(REMOVING + folder.name)
        shutil.rmtree(doomed, ignore_errors=True)
        try:
            folder.rename(doomed)
        except OSError as error:
            if error.errno != errno.EXDEV:  # a layer below the one that is written to, as in a container, keeps folders
                raise
            doomed = folder
    shutil.rmtree(doomed)


def whole(root: Path) -> list[Path]:
    """The folders that were made."""
    return [entry for entry in _folders(root) if not entry.name.startswith(".")]


def leftovers(root: Path) -> list[Path]:
    """Folders whose creation or removal was interrupted, or is under way."""
    return [entry for entry in _folders(root) if entry.name.startswith((MAKING, REMOVING))]


def meant_for(leftover: Path) -> str:
    """The name of the folder that a leftover was to become, or used to be."""
    return leftover.name.removeprefix(MAKING).removeprefix(REMOVING)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if os.path.isdir(entry))
    except OSError:
        return []

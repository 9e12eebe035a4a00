"""A file in the user's editor, which has the terminal meanwhile."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

VARIABLES = ("VISUAL", "EDITOR")
USUAL = ("nano", "vim", "vi")


def edit(app: App[Any], file: Path) -> str:
    """Open the file and wait until the editor ends; "" then, else the sentence that says why it was not opened."""
    by_hand = f"edit {file} yourself"
    named = next((os.environ[name] for name in VARIABLES if os.environ.get(name, "").strip()), "")
    try:
        command = shlex.split(named) if named else [found for name in USUAL if (found := shutil.which(name))][:1]
    except ValueError as error:
        return f"$EDITOR cannot be read as a command ({error}): {by_hand}."
    if not command:
        return f"There is no editor to open: set $EDITOR, or {by_hand}."
    failed = ""
    try:
        with app.suspend():
            try:
                subprocess.run([*command, str(file)], check=False)
            except OSError as error:
                failed = f"{command[0]} cannot be started ({error.strerror}): set $EDITOR, or {by_hand}."
    except SuspendNotSupported:
        return f"This terminal cannot be lent to an editor: {by_hand}."
    return failed

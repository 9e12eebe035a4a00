"""The command that starts one of our own modules as a process, whatever is on PYTHONPATH (see kasoku.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import sessions

ENTRY: Final = Path(sessions.__file__).parent.with_name("kasoku.py")


def own_process(module: str, *arguments: str) -> list[str]:
    """Run `main(arguments)` of `module` with this interpreter."""
    return [sys.executable, "-P", str(ENTRY), module, *arguments]

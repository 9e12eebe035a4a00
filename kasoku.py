"""The way in: the console script, and every process that Kasoku starts of itself.

    python kasoku.py MODULE [ARGUMENT]…        what `own_process` has the workbench start

Folders called `methods/` or `sessions/` are common, and one on PYTHONPATH or in the current folder would be imported
instead of ours. So the four rooms are bound to the folder of this file before anything of them is imported: a package
that is loaded already finds its submodules in its own folder, whatever is on the path.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

ROOMS = ("tui", "probes", "methods", "sessions")
STREAMS = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_WRONLY, "w"), ("stderr", os.O_WRONLY, "w"))


def settle_inheritance() -> None:
    """Make good what the starter of this process may have left it without.

    A closed standard stream becomes /dev/null: the next file opened, a session's lock for one, would get its number and
    be replaced in every child. An ignored SIGCHLD, which children inherit, would hide how they end.
    """
    for number, (name, flags, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):  # without a /dev/null nothing can be started anyway
                os.set_inheritable(os.open(os.devnull, flags), True)
                setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
                setattr(sys, f"__{name}__", getattr(sys, name))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def bind_rooms(folder: Path) -> None:
    """Load the rooms' packages, which are empty, from `folder`; one that is loaded from there already is kept."""
    for room in ROOMS:
        place = folder / room
        loaded = sys.modules.get(room)
        if loaded is not None and str(place) in getattr(loaded, "__path__", ()):
            continue
        spec = importlib.util.spec_from_file_location(
            room, place / "__init__.py", submodule_search_locations=[str(place)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"Kasoku is not whole: {place} is missing; install it again.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[room] = module
        spec.loader.exec_module(module)


def main() -> int:
    """The command line."""
    settle_inheritance()
    bind_rooms(Path(os.path.realpath(__file__)).parent)
    return int(importlib.import_module("tui.command_line").main())


def run_module(arguments: list[str]) -> int:
    """Run `main(arguments)` of one of our modules; the first argument is its name, the others are what it is told."""
    settle_inheritance()
    bind_rooms(Path(os.path.realpath(__file__)).parent)
    sys.argv = arguments
    return int(importlib.import_module(arguments[0]).main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(run_module(sys.argv[1:]))

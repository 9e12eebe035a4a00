"""The distributions that are installed in a Python, read from their metadata without starting it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NAMED = re.compile(r"^(Name|Version):[ \t]*(\S+)[ \t]*$", re.MULTILINE)


def versions_in(folders: list[str]) -> dict[str, str]:
    """The distributions installed in these `sys.path` folders, from the names of their metadata."""
    from importlib import metadata

    versions: dict[str, str] = {}
    for distribution in metadata.distributions(path=folders):
        name, version = name_and_version(distribution)
        if name:
            versions.setdefault(normalised(name), version)
    return dict(sorted(versions.items()))


def name_and_version(distribution: Distribution) -> tuple[str, str]:
    """From two lines of its metadata where those are as usual: to parse it with its description takes far longer."""
    headers = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
    found = dict(NAMED.findall(headers))
    if len(found) == 2 == len(NAMED.findall(headers)):
        return found["Name"], found["Version"]
    return distribution.name, distribution.version


def normalised(name: str) -> str:
    """A distribution's normalised name."""
    return name.lower().replace("_", "-").replace(".", "-")


def site_packages(python: Path) -> list[str]:
    """The `site-packages` folders in the prefix of `python`, found without starting it."""
    prefix = python.parent.parent
    found = [str(path) for path in sorted(prefix.glob("lib*/python3*/*-packages"))]
    if not os.path.isfile(prefix / "pyvenv.cfg") and os.path.islink(python):
        found += site_packages(python.parent / python.readlink())
    return found

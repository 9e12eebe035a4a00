"""The software versions of a measurement: Kasoku's own, and those of the packages its numbers pass through."""

from __future__ import annotations

import platform
from importlib import metadata

from methods.environments.distributions import name_and_version

PACKAGES = ("kasoku", "polars", "msgspec", "psutil", "nvidia-ml-py", "numpy", "scipy", "tokenizers", "textual")


def software() -> dict[str, str]:
    """Versions by distribution, without importing any; what is not installed is left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = name_and_version(metadata.distribution(name))[1]
        except metadata.PackageNotFoundError:
            continue
    return versions

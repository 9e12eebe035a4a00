"""The environments Kasoku created: folders `environments/NAME-KEY/` in the home, each with a manifest written last."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from methods.base import whole_folder
from methods.base.bounded_read import read_regular
from methods.base.home import ENVIRONMENTS, write_atomically
from methods.environments.specs import EnvironmentSpec

MANIFEST = "kasoku-environment.json"
MANIFEST_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a managed environment, written once everything in it has been verified."""

    schema: int
    name: str
    spec_digest: str
    backend: str
    python_version: str
    created: str
    size_bytes: int
    versions: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ManagedEnvironment:
    """A folder in the home that has a manifest, and a sentence if it can no longer be used."""

    folder: Path
    manifest: Manifest
    fault: str | None

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def folder_name(spec: EnvironmentSpec, backend: str, python: str) -> str:
    """The key of its content: a different description, build or Python is a different folder."""
    key = hashlib.sha256(json.dumps([spec.digest, backend, python]).encode()).hexdigest()[:12]
    return f"{spec.name}-{key}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_atomically(folder / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())


def read(folder: Path) -> ManagedEnvironment | None:
    """The environment in `folder`; None if it has no readable manifest."""
    try:
        fields = json.loads(read_regular(folder / MANIFEST).decode())
        if fields["schema"] != MANIFEST_SCHEMA:
            return None
        manifest = Manifest(**{**fields, "notes": tuple(fields["notes"])})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not _sound(manifest):
        return None
    environment = ManagedEnvironment(folder, manifest, None)
    python = environment.python
    if os.access(python, os.X_OK):
        return environment
    target = python.readlink() if os.path.islink(python) else python
    fault = f"the Python of the environment {manifest.name} is gone ({target})"
    return ManagedEnvironment(folder, manifest, fault)


def _sound(manifest: Manifest) -> bool:
    """Whether every field has its type: a file that somebody edited may hold anything."""
    texts = (manifest.name, manifest.spec_digest, manifest.backend, manifest.python_version, manifest.created)
    return (
        all(isinstance(text, str) for text in (*texts, *manifest.notes))
        and isinstance(manifest.size_bytes, int)
        and isinstance(manifest.versions, dict)
        and all(isinstance(version, str) for version in manifest.versions.values())
    )


def managed(home: Path, name: str | None = None) -> list[ManagedEnvironment]:
    """The environments of the home, of this name or of all, the newest first."""
    found = [
        environment for folder in whole_folder.whole(home / ENVIRONMENTS) if (environment := read(folder)) is not None
    ]
    if name is not None:
        found = [environment for environment in found if environment.manifest.name == name]
    return sorted(found, key=lambda environment: environment.manifest.created, reverse=True)


def size_of(folder: Path) -> int:
    """Bytes on disk of all files under `folder`, each hard-linked file once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            stat = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - tens of thousands of files
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_blocks * 512
    return total

"""Environments: which interpreter a method runs in. Resolving imports no engine, and starts no process but Kasoku's own
Python, where that may be the one.

The order is: the Python named in the user's config, an environment created by Kasoku, the Python that Kasoku itself
runs in if a runner finds there what is needed; otherwise `Unavailable` with the one command that fixes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from methods.base import file_lock, whole_folder
from methods.base.home import CACHE, ENVIRONMENTS, private_folder, subfolder, write_atomically
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Report, silent
from methods.base.secret_variables import is_secret
from methods.base.user_path import PathError, absolute, kind, storable
from methods.environments import managed, torch_builds
from methods.environments.creation import CreationError, make
from methods.environments.distributions import normalised, site_packages, versions_in
from methods.environments.own_python import own_python
from methods.environments.specs import EnvironmentSpec, EnvironmentSpecs, load_specs
from methods.jobs.runner_job import JobError, run_job

__all__ = [
    "CreationError",
    "EnvironmentProblemError",
    "EnvironmentRow",
    "EnvironmentSpec",
    "Interpreter",
    "Unavailable",
    "create",
    "listed",
    "load_specs",
    "remove",
    "resolve",
    "use",
]

State = Literal["configured", "ready", "own", "absent", "outdated", "broken", "incomplete"]


class EnvironmentProblemError(Exception):
    """An invalid request about an environment. The text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """An environment as `kasoku env list` shows it. `versions` are those of its requirements, by name."""

    name: str
    purpose: str
    state: State
    reason: str
    python: Path | None
    python_version: str | None
    backend: str | None
    folder: Path | None
    size_bytes: int | None
    created: str | None
    versions: Mapping[str, str]
    takes: str = ""  # what making it costs, where that is known; the reason says it too


def resolve(name: str, home: Path, config_folder: Path) -> Interpreter | Unavailable:
    """The interpreter of the environment `name`, in a few milliseconds."""
    spec = load_specs(config_folder).by_name.get(name)
    if spec is None:
        return Unavailable(unknown(name, load_specs(config_folder)), "kasoku env list")
    if spec.interpreter is not None:
        return _configured(spec, spec.interpreter)
    remedy = f"kasoku env create {name}"
    all_of_name = managed.managed(home, name)
    current = [each for each in all_of_name if each.manifest.spec_digest == spec.digest]
    ready = [each for each in current if each.fault is None]
    wanted = torch_builds.chosen_backend(spec.backend, torch_builds.has_nvidia_driver()) if len(ready) > 1 else ""
    for each in sorted(ready, key=lambda each: each.manifest.backend != wanted):
        manifest = each.manifest
        return Interpreter(name, each.python, spec.paths, spec.variables, "managed", manifest.versions)
    if current:
        return Unavailable(f"{_capital(current[0].fault or '')}.", remedy)
    own = own_python(spec, remedy)
    if isinstance(own, Unavailable) and all_of_name:
        return Unavailable(f"The environment {name} was created from an older description.", remedy)
    if isinstance(own, Unavailable) and spec.takes:
        return Unavailable(f"{own.reason} Making it takes {spec.takes}.", own.remedy)
    return own


def create(
    name: str,
    home: Path,
    config_folder: Path,
    *,
    backend: str = torch_builds.AUTO,
    report: Report = silent,
    environ: Mapping[str, str] = os.environ,
) -> Interpreter:
    """Create the environment `name`, or return the existing one. Raises EnvironmentProblemError or CreationError.

    `backend` is torch's build: auto (CUDA's where the driver is), cpu, cuda, or a name that uv knows, cu126 for one.
    """
    spec = _known(name, config_folder)
    if spec.interpreter is not None:
        raise EnvironmentProblemError(
            f"The environment {name} is pointed at {spec.interpreter}; undo that with `kasoku env remove {name}` "
            "before creating one."
        )
    made = make(spec, home, backend, report, environ)
    return Interpreter(name, made.python, spec.paths, spec.variables, "managed", made.manifest.versions)


def use(
    name: str,
    python: Path,
    home: Path,
    config_folder: Path,
    *,
    paths: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None,
    report: Report = silent,
) -> Interpreter:
    """Point the environment `name` at the user's interpreter, after checking it. Raises EnvironmentProblemError."""
    python = _python(python)
    specs = load_specs(config_folder)
    known = specs.by_name.get(name)
    spec = EnvironmentSpec(name) if known is None else known
    for variable, value in (variables or {}).items():
        if is_secret(variable, value):
            raise EnvironmentProblemError(
                f"--variable {variable} looks like a secret, and engines get none: sessions store their variables."
            )
    given = Interpreter(name, python, paths, {**spec.variables, **(variables or {})}, "configured", {})
    log = subfolder(home, CACHE) / f"describe-{os.getpid()}.log"
    job = {"job": "describe", "distributions": [], "imports": list(spec.imports)}
    try:
        result = run_job(given, job, log, report)
    except JobError as error:
        raise EnvironmentProblemError(f"{python} is not a working Python 3.9 or later: {error}") from error
    finally:
        log.unlink(missing_ok=True)
        log.with_suffix(".job.json").unlink(missing_ok=True)
    imports = result.get("imports")
    for module, fault in imports.items() if isinstance(imports, dict) else ():
        if fault:
            raise EnvironmentProblemError(
                f"{python} cannot import {module}, which the environment {name} needs: {fault}"
            )
    folder = private_folder(private_folder(config_folder) / "environments")
    table = [f"[{_text(name)}]", f"python = {_text(str(python))}"]
    if paths:
        table.append(f"paths = [{', '.join(map(_text, paths))}]")
    if variables:
        table += [f"[{_text(name)}.variables]", *(f"{_text(key)} = {_text(value)}" for key, value in variables.items())]
    write_atomically(folder / f"{name}.toml", ("\n".join(table) + "\n").encode())
    again = load_specs(config_folder)
    if name not in again.by_name or again.by_name[name].interpreter != python:
        (folder / f"{name}.toml").unlink()
        raise EnvironmentProblemError(
            next(iter(again.problems), f"The environment {name} cannot be pointed at {python}.")
        )
    chosen = _configured(again.by_name[name], python)
    if isinstance(chosen, Unavailable):
        raise EnvironmentProblemError(chosen.reason)
    return chosen


def remove(name: str, home: Path, config_folder: Path, report: Report = silent) -> list[Path]:
    """Undo `use` for the environment `name` and delete all created under that name; returns what was removed."""
    gone: list[Path] = []
    pointer = config_folder / "environments" / f"{name}.toml"
    if os.path.isfile(pointer):
        _deleted(pointer, pointer.unlink)
        gone.append(pointer)
    folders = [each.folder for each in managed.managed(home, name)]
    folders += [
        leftover
        for leftover in whole_folder.leftovers(home / ENVIRONMENTS)
        if whole_folder.meant_for(leftover).rpartition("-")[0] == name
    ]
    for folder in folders:
        lock = whole_folder.lock_of(home / ENVIRONMENTS, whole_folder.meant_for(folder))
        with file_lock.held(lock, f"environment {name}", report):
            if os.path.isdir(folder):
                _deleted(folder, partial(whole_folder.delete, folder))
                gone.append(folder)
    if not gone:
        spec = _known(name, config_folder)
        where = f"; your config points it at {spec.interpreter}" if spec.interpreter else ""
        raise EnvironmentProblemError(f"There is no environment {name} to remove{where}.")
    return gone


def listed(home: Path, config_folder: Path) -> list[EnvironmentRow]:
    """Every environment described, and every one created, usable or not."""
    specs = load_specs(config_folder)
    rows: list[EnvironmentRow] = []
    for name, spec in specs.by_name.items():
        found = resolve(name, home, config_folder)
        made = managed.managed(home, name)
        for each in made:
            manifest = each.manifest
            state: State = "broken" if each.fault else "ready" if manifest.spec_digest == spec.digest else "outdated"
            rows.append(
                EnvironmentRow(
                    name,
                    spec.purpose,
                    state,
                    each.fault or "; ".join(manifest.notes),
                    each.python,
                    manifest.python_version,
                    manifest.backend or None,
                    each.folder,
                    manifest.size_bytes,
                    manifest.created,
                    _asked_for(spec, manifest.versions),
                )
            )
        if isinstance(found, Interpreter) and found.source != "managed":
            first: State = "configured" if found.source == "configured" else "own"
            versions = _asked_for(spec, found.versions)
            rows.append(
                EnvironmentRow(name, spec.purpose, first, "", found.python, None, None, None, None, None, versions)
            )
        elif isinstance(found, Unavailable) and (spec.interpreter is not None or not made):
            state = "absent" if spec.interpreter is None else "broken"
            rows.append(
                EnvironmentRow(
                    name,
                    spec.purpose,
                    state,
                    found.reason,
                    spec.interpreter,
                    None,
                    None,
                    None,
                    None,
                    None,
                    {},
                    spec.takes if state == "absent" else "",
                )
            )
    for leftover in whole_folder.leftovers(home / ENVIRONMENTS):
        meant_for = whole_folder.meant_for(leftover).rpartition("-")[0]
        reason = "it is being created, or was interrupted; creating it again removes the leftovers"
        rows.append(EnvironmentRow(meant_for, "", "incomplete", reason, None, None, None, leftover, None, None, {}))
    return rows


def _python(named: Path) -> Path:
    """The user's interpreter, absolute, its links kept. Raises EnvironmentProblemError."""
    try:
        python = storable(Path(os.path.normpath(absolute(named))))
        is_file = kind(python) == "file"
    except PathError as error:
        raise EnvironmentProblemError(str(error)) from None
    if not is_file:
        raise EnvironmentProblemError(f"{python} is not a file; name a Python.")
    if not os.access(python, os.X_OK):
        raise EnvironmentProblemError(
            f"{python} is not an executable; name the Python itself, such as /usr/bin/python3."
        )
    return python


def _deleted(path: Path, delete: Callable[[], None]) -> None:
    try:
        delete()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise EnvironmentProblemError(f"{path} cannot be removed: {reason}; make its folder writable.") from error


def unknown(name: str, specs: EnvironmentSpecs) -> str:
    """The sentence for an unknown name."""
    import difflib

    close = difflib.get_close_matches(name, specs.by_name, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(sorted(specs.by_name))}."
    return f"No environment is called {name!r}; {hint}"


def _known(name: str, config_folder: Path) -> EnvironmentSpec:
    specs = load_specs(config_folder)
    if name not in specs.by_name:
        raise EnvironmentProblemError(unknown(name, specs))
    return specs.by_name[name]


def _configured(spec: EnvironmentSpec, python: Path) -> Interpreter | Unavailable:
    remedy = f"kasoku env use {spec.name} /path/to/python"
    if not python.is_absolute():
        return Unavailable(f"The Python {python} in your config for {spec.name} is not an absolute path.", remedy)
    if not os.path.isfile(python):
        return Unavailable(f"The Python {python} in your config for {spec.name} does not exist.", remedy)
    if not os.access(python, os.X_OK):
        return Unavailable(f"The Python {python} in your config for {spec.name} cannot be executed.", remedy)
    versions = versions_in([*spec.paths, *site_packages(python)])
    return Interpreter(spec.name, python, spec.paths, spec.variables, "configured", versions)


def _asked_for(spec: EnvironmentSpec, versions: Mapping[str, str]) -> dict[str, str]:
    """The distributions that the description names; all if it names none."""
    import re

    names = [normalised(re.split(r"[^A-Za-z0-9._-]", text.strip(), maxsplit=1)[0]) for text in spec.requirements]
    return {name: versions[name] for name in names if name in versions} if names else dict(versions)


def _text(value: str) -> str:
    """A TOML string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]

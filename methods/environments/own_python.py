"""Kasoku's own Python as an environment: only what a runner started in it would find there counts.

A runner starts with `-I`: what PYTHONPATH, the user's site folder or the current folder add for Kasoku itself, as
clusters and `pip install --user` do, is not there for it.
"""

from __future__ import annotations

import functools
import json
import shlex
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Final

from methods.base.interpreter import Interpreter, Unavailable
from methods.environments.distributions import normalised
from methods.environments.specs import EnvironmentSpec

ASK_S: Final = 30.0
# Prints the module path of a runner, and which of the named packages it finds.
LOOK: Final = (
    "import json, sys; from importlib import util; sys.path[:0] = json.loads(sys.argv[1]); "
    "print(json.dumps([sys.path, [name for name in sys.argv[2:] if util.find_spec(name) is not None]]))"
)


def own_python(spec: EnvironmentSpec, remedy: str) -> Interpreter | Unavailable:
    """The Python that Kasoku runs in if a runner finds there what `spec` needs, otherwise why it is not taken.

    Starts that Python once if Kasoku itself finds the packages. `remedy` is the command that makes the environment.
    """
    from importlib import metadata

    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import SpecifierSet

    if not spec.imports:
        return _not_taken(spec, "Kasoku's own Python is never used for it", remedy)
    own = ".".join(map(str, sys.version_info[:3]))
    if own not in SpecifierSet(spec.python):
        return _not_taken(spec, f"Kasoku's own Python is {own}", remedy)
    packages = tuple(dict.fromkeys(module.partition(".")[0] for module in spec.imports))
    for package in packages:  # looking for more of a module's name would import it
        if util.find_spec(package) is None:
            return _not_taken(spec, f"Kasoku's own Python has no {package}", remedy)
    path, found = _seen_by_a_runner(packages, spec.paths)
    for package in packages:
        if package not in found:
            return _out_of_sight(spec, package, remedy)
    versions: dict[str, str] = {}
    for text in spec.requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        version = next((each.version for each in metadata.distributions(name=requirement.name, path=list(path))), None)
        if version is None:
            continue
        versions[normalised(requirement.name)] = version
        if not requirement.specifier.contains(version, prereleases=True) and requirement.name in spec.imports:
            return _not_taken(spec, f"Kasoku's own Python has {requirement.name} {version}", remedy)
    return Interpreter(spec.name, Path(sys.executable), spec.paths, spec.variables, "own", versions)


@functools.lru_cache
def _seen_by_a_runner(packages: tuple[str, ...], paths: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The module path of a runner in this Python, and which of the packages it finds; nothing if it does not start."""
    command = [sys.executable, "-I", "-c", LOOK, json.dumps(paths), *packages]
    try:
        said = subprocess.run(command, capture_output=True, check=True, timeout=ASK_S).stdout
        path, found = json.loads(said)
    except (OSError, subprocess.SubprocessError, ValueError):
        return (), frozenset()
    return tuple(path), frozenset(found)


def _out_of_sight(spec: EnvironmentSpec, package: str, remedy: str) -> Unavailable:
    """Kasoku finds the package, runners do not: the command that shows it to them."""
    found = util.find_spec(package)
    places = [*(found.submodule_search_locations or ()), found.origin or ""] if found else []
    folder = next((str(Path(place).parent) for place in places if place), None)
    if folder is None:
        return _not_taken(spec, f"runners do not find Kasoku's own {package}", remedy)
    return _not_taken(
        spec,
        f"Kasoku finds {package} only through PYTHONPATH or the user's site folder, in {folder}, where runners do not"
        " look unless the environment names it",
        f"kasoku env use {spec.name} {shlex.quote(sys.executable)} --path {shlex.quote(folder)}",
    )


def _not_taken(spec: EnvironmentSpec, why: str, remedy: str) -> Unavailable:
    return Unavailable(f"There is no environment {spec.name} yet, and {why}.", remedy)

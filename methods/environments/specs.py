"""Descriptions of environments: those that come with Kasoku, and those in the user's config folder."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from methods.base.toml_file import TomlError, read_toml, toml_files
from methods.base.user_path import named_path, reason

BUILT_IN = Path(__file__).parent / "environments.toml"
LISTS = ("requirements", "overrides", "imports", "paths")
LONGEST_NAME = 100
PYTHON_VERSIONS = re.compile(r"\s*(~=|==|!=|<=|>=|<|>)\s*\d+(\.\d+)*(\.\*)?\s*")
# What looks like a specifier and is none: "about 3", "at least 3.*".
NO_VERSION = re.compile(r"\s*(~=\s*\d+(\.\*)?|(~=|<=|>=|<|>)\s*[\d.]+\.\*)\s*")
KEYS = {"purpose", "python", "backend", "variables", "build", "takes", *LISTS}


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """An environment as described. `python` and `requirements` are version specifiers as in pip."""

    name: str
    purpose: str = ""
    python: str = ""
    requirements: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    backend: str = "auto"
    imports: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    build: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For a package that is compiled: what its build is told, as pip's --config-settings."""
    takes: str = ""
    """What it costs in space and time, half a sentence that is said before it is made."""
    interpreter: Path | None = None
    """The Python named in the user's config, used as it is."""

    @property
    def digest(self) -> str:
        """A digest of what would be installed: an environment created from an older description does not match."""
        what: list[object] = [self.python, self.requirements, self.overrides, self.imports]
        content = json.dumps([*what, self.build] if self.build else what)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EnvironmentSpecs:
    """All descriptions by name, and a sentence for each of the user's that could not be read."""

    by_name: Mapping[str, EnvironmentSpec]
    problems: tuple[str, ...]


def load_specs(config_folder: Path) -> EnvironmentSpecs:
    """The built-in descriptions, overridden and extended by `environments.toml` and then `environments/*.toml`."""
    specs = dict(_built_in())
    problems: list[str] = []
    try:
        files = toml_files(config_folder / "environments")
    except OSError as error:
        files, problems = [], [f"{config_folder / 'environments'} cannot be listed: {reason(error)}."]
    for path in (config_folder / "environments.toml", *files):
        try:
            tables = read_toml(path)
        except FileNotFoundError:
            continue
        except (OSError, TomlError) as error:
            said = reason(error) if isinstance(error, OSError) else str(error)
            problems.append(f"{path} cannot be read ({said}) and is ignored.")
            continue
        for name, table in tables.items():
            try:
                specs[name] = described(name, table, specs.get(name))
            except ValueError as error:
                problems.append(f"{path}: [{name}] {error}; it is ignored.")
    return EnvironmentSpecs(specs, tuple(problems))


@functools.cache
def _built_in() -> Mapping[str, EnvironmentSpec]:
    return MappingProxyType({name: described(name, table, None) for name, table in read_toml(BUILT_IN).items()})


def described(name: str, table: object, base: EnvironmentSpec | None) -> EnvironmentSpec:
    """The description that a TOML table gives, on top of `base`. Raises ValueError with half a sentence."""
    if not isinstance(table, dict):
        raise ValueError("is not a table")
    if not name.replace("-", "").replace(".", "").replace("_", "").isalnum() or name.startswith((".", "-")):
        raise ValueError("is not a valid environment name: use letters, digits, '-', '_' and '.'")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"has a name of more than {LONGEST_NAME} characters")
    if unknown := sorted(set(table) - KEYS):
        raise ValueError(f"has the unknown key {unknown[0]!r}; known are {', '.join(sorted(KEYS))}")
    given: dict[str, object] = {}
    for key, value in table.items():
        if key in LISTS:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError(f"needs a list of strings as {key}")
            if key == "imports" and not all(part.isidentifier() for item in value for part in item.split(".")):
                raise ValueError("needs module names as imports")
            given[key] = tuple(value)
        elif key == "variables":
            if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
                raise ValueError("needs strings as variables")
            if not all(name and "=" not in name for name in value):
                raise ValueError("needs variable names without '='")
            given[key] = {**(base.variables if base else {}), **value}
        elif key == "build":
            given[key] = _settings(value)
        elif not isinstance(value, str):
            raise ValueError(f"needs a string as {key}")
        else:
            given[key] = value
    if any("\0" in text for text in _texts(given)):  # no path, variable or argument of a process can hold one
        raise ValueError("contains a NUL character")
    if "/" in (python := str(given.get("python", ""))):
        given["python"] = base.python if base else ""
        given["interpreter"] = named_path(python)
    elif python:
        given["python"] = python_versions(python)
    if base is None and "requirements" not in given and "interpreter" not in given:
        raise ValueError('names neither a Python of yours (python = "/path/to/python") nor requirements to install')
    return replace(base or EnvironmentSpec(name), **given)  # type: ignore[arg-type]


def _settings(value: object) -> dict[str, dict[str, str]]:
    """What builds are told, by package. Raises ValueError with half a sentence."""
    told: dict[str, dict[str, str]] = {}
    for package, table in value.items() if isinstance(value, dict) else (("", value),):
        if not isinstance(table, dict) or not all(isinstance(setting, str) for setting in table.values()):
            raise ValueError("needs a table of strings for each package under build")
        told[package] = dict(table)
    return told


def _texts(value: object) -> Iterator[str]:
    """Every string in a TOML table."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (key, *_texts(inner))
    elif isinstance(value, tuple):
        for inner in value:
            yield from _texts(inner)


def python_versions(text: str) -> str:
    """A version specifier: `3.11` stands for any 3.11. Raises ValueError with half a sentence."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return f"=={text}.*"
    if re.fullmatch(r"\d+\.\d+\.\d+", text):
        return f"=={text}"
    if not all(PYTHON_VERSIONS.fullmatch(part) and not NO_VERSION.fullmatch(part) for part in text.split(",")):
        raise ValueError(f"needs a Python version such as '3.11' or '>=3.10,<3.14', or a path, not {text!r}")
    return text

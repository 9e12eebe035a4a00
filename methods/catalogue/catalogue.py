"""The catalogue of methods: read from TOML, validated key by key, without importing anything heavy."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import methods
from methods.base.home import named_path
from methods.base.toml_file import TomlError, read_toml
from methods.catalogue import evidence

BUILT_IN = Path(__file__).with_name("catalogue.toml")
ENGINES = Path(methods.__file__).parent / "runner" / "kasoku_engines"
DEVICES = ("cuda", "cpu")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
COMPUTE_CAPABILITY = re.compile(r"\d+\.\d+")
DRIVER = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a machine must have. The driver and the compute capability (lowest and highest) apply to GPUs only."""

    devices: tuple[str, ...] = DEVICES
    min_driver: str | None = None
    min_compute_capability: str | None = None
    max_compute_capability: str | None = None
    compiler: bool = False
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One way to generate. `engine` is the name of a built-in engine or the absolute path of a user's file."""

    name: str
    summary: str
    engine: str
    options: Mapping[str, object]
    environments: Mapping[str, str]
    needs: Needs
    must_show: Mapping[str, object]
    reference: str | None
    differs: str
    good_for: str
    origin: str
    presets: tuple[str, ...]
    file: Path = field(compare=False)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The methods by name, built-in ones first, and a sentence for each rejected entry of the user's files."""

    methods: Mapping[str, Method]
    problems: tuple[str, ...]


class _ProblemError(Exception):
    """One sentence on what is wrong with a row."""


def load_catalogue(config_folder: Path) -> Catalogue:
    """The built-in methods and those of `config_folder`/methods/*.toml; a broken file becomes a sentence."""
    methods: dict[str, Method] = {}
    problems: list[str] = []
    try:
        files = sorted((config_folder / "methods").glob("*.toml"))
    except OSError as error:
        files, problems = [], [f"{config_folder / 'methods'} cannot be listed: {error.strerror}."]
    for file in [BUILT_IN, *files]:
        rows = _rows(file, problems)
        for name, row in rows.items():
            try:
                if name in methods:
                    raise _ProblemError(f"the name is already taken by {methods[name].file}; use another")
                methods[name] = _method(name, row, file)
            except _ProblemError as problem:
                problems.append(f"{file}: method {name!r}: {problem}.")
    _drop_broken_references(methods, problems)
    return Catalogue(MappingProxyType(methods), tuple(problems))


def nearest(name: str, names: Collection[str]) -> list[str]:
    """At most three names that the author of `name` may have meant, best first."""
    import difflib

    folded = {candidate.casefold(): candidate for candidate in names}
    wanted = name.casefold()
    close = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.6)
    containing = [candidate for candidate in folded if wanted and wanted in candidate and candidate not in close]
    return [folded[candidate] for candidate in [*close, *containing][:3]]


def _rows(file: Path, problems: list[str]) -> Mapping[str, object]:
    try:
        document = read_toml(file)
    except OSError as error:
        problems.append(f"{file} cannot be read: {error.strerror}.")
        return {}
    except TomlError as error:
        problems.append(f"{file} is not valid TOML: {error}.")
        return {}
    problems.extend(
        f"{file}: {key!r} is not known at the top; a method is a table [methods.NAME]."
        for key in document
        if key != "methods"
    )
    rows = document.get("methods", {})
    if not isinstance(rows, dict):
        problems.append(f"{file}: 'methods' must hold one table per method: [methods.NAME].")
        return {}
    return rows


def _method(name: str, row: object, file: Path) -> Method:
    if not NAME.fullmatch(name):
        raise _ProblemError("a name is up to 64 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit")
    if not isinstance(row, dict):
        raise _ProblemError(f"it must be a table [methods.{name}]")
    known = ("summary", "engine", "options", "environments", "needs", "must_show", "reference", "differs", "good_for")
    _only_known(row, (*known, "origin", "presets"), "")
    _check_storable(row, "")
    reference = _text(row, "reference", "")
    if reference and "differs" not in row:
        raise _ProblemError("it has a reference, so it needs 'differs': how it differs from it")
    return Method(
        name=name,
        summary=_text(row, "summary"),
        engine=_engine(_text(row, "engine"), file.parent),
        options=MappingProxyType(_table(row, "options")),
        environments=MappingProxyType(_environments(_table(row, "environments"))),
        needs=_needs(_table(row, "needs")),
        must_show=MappingProxyType(_must_show(_table(row, "must_show"))),
        reference=reference or None,
        differs=_text(row, "differs", ""),
        good_for=_text(row, "good_for", ""),
        origin=_text(row, "origin", ""),
        presets=_texts(row, "presets"),
        file=file,
    )


def _only_known(table: Mapping[str, object], known: Collection[str], within: str) -> None:
    for key in table:
        if key not in known:
            close = nearest(key, known)
            hint = f"did you mean {close[0]!r}" if close else f"it can have {', '.join(known)}"
            raise _ProblemError(f"{within}{key!r} is not known; {hint}")


def _check_storable(value: object, place: str) -> None:
    """A session stores its methods as JSON: values that JSON cannot hold are rejected here."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_storable(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for inner in value:
            _check_storable(inner, place)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _ProblemError(f"{place!r} is not a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _ProblemError(f"{place!r} is a number too large to store")
    elif not isinstance(value, str | bool | int | float):
        raise _ProblemError(f"{place!r} is a date or time; write it as text")


def _text(table: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if value is None:
        raise _ProblemError(f"{key!r} is missing")
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise _ProblemError(f"{key!r} must be a string")
    return value


def _texts(table: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _ProblemError(f"{key!r} must be a list of strings")
    return tuple(value)


def _table(table: Mapping[str, object], key: str) -> dict[str, object]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise _ProblemError(f"{key!r} must be a table")
    return value


def _engine(engine: str, folder: Path) -> str:
    """One of ours by name, an absolute path, or `./NAME.py` beside the TOML file."""
    if "/" in engine or engine.endswith(".py"):
        path = folder.absolute() / engine if engine.startswith("./") else named_path(engine)
        if not path.is_absolute():
            raise _ProblemError(
                f"the engine {engine!r} must be an absolute path, './NAME.py' beside this file, or the name of one of"
                " kasoku's engines"
            )
        if not os.path.isfile(path):  # noqa: PTH113 - nor one whose name is too long to be one
            raise _ProblemError(f"no such engine file: {path}")
        return str(path)
    own = sorted(file.stem.removeprefix("kasoku_") for file in ENGINES.glob("kasoku_*.py"))
    if engine not in own:
        raise _ProblemError(
            f"unknown engine {engine!r}; choose {', '.join(own)}, or give the absolute path of your file"
        )
    return engine


def _environments(table: Mapping[str, object]) -> dict[str, str]:
    _only_known(table, DEVICES, "environments: ")
    if not table:
        raise _ProblemError("'environments' is missing: name one for cpu, for cuda, or for both")
    return {device: _text(table, device) for device in table}


def _needs(table: Mapping[str, object]) -> Needs:
    capabilities = ("min_compute_capability", "max_compute_capability")
    _only_known(table, ("devices", "min_driver", *capabilities, "compiler", "free_bytes"), "needs: ")
    devices = _texts(table, "devices") or DEVICES
    for device in devices:
        if device not in DEVICES:
            raise _ProblemError(f"needs: unknown device {device!r}; choose from {' and '.join(DEVICES)}")
    driver = _text(table, "min_driver", "") or None
    if driver and not DRIVER.fullmatch(driver):
        raise _ProblemError("needs: 'min_driver' must be a version such as \"535.104\"")
    bounds = [_text(table, name, "") or None for name in capabilities]
    for name, capability in zip(capabilities, bounds, strict=True):
        if capability and not COMPUTE_CAPABILITY.fullmatch(capability):
            raise _ProblemError(f"needs: {name!r} must be a string such as '8.0'")
    compiler = table.get("compiler", False)
    if not isinstance(compiler, bool):
        raise _ProblemError("needs: 'compiler' must be true or false")
    free_bytes = table.get("free_bytes")
    if free_bytes is not None and (isinstance(free_bytes, bool) or not isinstance(free_bytes, int) or free_bytes < 0):
        raise _ProblemError("needs: 'free_bytes' must be a whole number of bytes")
    first, last = bounds
    return Needs(devices, driver, first, last, compiler, free_bytes)


def _must_show(table: dict[str, object], within: str = "must_show: ") -> dict[str, object]:
    """The conditions checked; a table `cpu` or `cuda` in it holds more of them, for that device."""
    devices = () if within != "must_show: " else evidence.DEVICES
    _only_known(table, (*evidence.CONDITIONS, evidence.WHY_NOT, *devices), within)
    for key, value in table.items():
        if key in devices:
            _must_show(_table(table, key), f"{within}{key}: ")
        elif key == evidence.WHY_NOT:
            explanations = _table(table, key)
            _only_known(explanations, [name for name in table if name not in (key, *devices)], f"{within}why_not: ")
            for condition in explanations:
                _text(explanations, condition)
        elif problem := evidence.problem_of(key, value):
            raise _ProblemError(f"{within}{key!r} {problem}")
    return table


def _drop_broken_references(methods: dict[str, Method], problems: list[str]) -> None:
    """A method is compared with its reference, so a broken chain of references invalidates it."""
    faults = [(method, _fault_of_references(method, methods)) for method in methods.values()]
    for method, fault in faults:
        if fault is not None:
            problems.append(f"{method.file}: method {method.name!r}: {fault}.")
            del methods[method.name]


def _fault_of_references(method: Method, methods: Mapping[str, Method]) -> str | None:
    chain = [method.name]
    current = method
    while current.reference is not None:
        chain.append(current.reference)
        if current.reference in chain[:-1]:
            return f"its references form a cycle, {' → '.join(chain)}; the last of them must have none"
        if current.reference not in methods:
            if current is not method:
                return f"its reference leads to {current.reference!r}, which does not exist"
            close = nearest(current.reference, methods)
            hint = f"did you mean {close[0]!r}" if close else f"choose from {', '.join(methods)}"
            return f"its reference {current.reference!r} does not exist; {hint}"
        current = methods[current.reference]
    return None

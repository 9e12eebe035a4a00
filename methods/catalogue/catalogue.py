"""The catalogue of methods: read from TOML, validated key by key, without importing anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from methods.base.toml_file import TomlError, read_toml, toml_files
from methods.base.user_path import reason
from methods.catalogue.method import Method, read_method
from methods.catalogue.toml_keys import KeyProblemError, nearest

BUILT_IN = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The methods by name, built-in ones first, with the file of each, and a sentence for each rejected entry of the
    user's files."""

    methods: Mapping[str, Method]
    files: Mapping[str, Path]
    problems: tuple[str, ...]


def load_catalogue(config_folder: Path) -> Catalogue:
    """The built-in methods and those of `config_folder`/methods/*.toml; a broken file becomes a sentence."""
    methods: dict[str, Method] = {}
    origins: dict[str, Path] = {}
    problems: list[str] = []
    try:
        files = toml_files(config_folder / "methods")
    except OSError as error:
        files, problems = [], [f"{config_folder / 'methods'} cannot be listed: {reason(error)}."]
    for file in [BUILT_IN, *files]:
        rows = _rows(file, problems)
        for name, row in rows.items():
            try:
                check_free(name, origins)
                methods[name], origins[name] = read_method(name, row, file.parent), file
            except KeyProblemError as problem:
                problems.append(f"{file}: method {name!r}: {problem}.")
    _drop_broken_references(methods, origins, problems)
    return Catalogue(MappingProxyType(methods), MappingProxyType(origins), tuple(problems))


def check_free(name: str, files: Mapping[str, Path]) -> None:
    """Raise KeyProblemError where one of the methods, each with its file, has that name."""
    if name in files:
        raise KeyProblemError(f"the name is already taken by {files[name]}; use another")


def _rows(file: Path, problems: list[str]) -> Mapping[str, object]:
    try:
        document = read_toml(file)
    except OSError as error:
        problems.append(f"{file} cannot be read: {reason(error)}.")
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


def _drop_broken_references(methods: dict[str, Method], files: Mapping[str, Path], problems: list[str]) -> None:
    """A method is compared with its reference, so a broken chain of references invalidates it."""
    faults = [(method, _fault_of_references(method, methods)) for method in methods.values()]
    for method, fault in faults:
        if fault is not None:
            problems.append(f"{files[method.name]}: method {method.name!r}: {fault}.")
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

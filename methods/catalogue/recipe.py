"""A method's recipe: its table as TOML, and a copy of it in the config folder for the user to change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from methods.base.home import HomeError, private_folder, write_atomically
from methods.base.toml_file import TomlError, read_toml
from methods.base.user_path import reason
from methods.catalogue.catalogue import Catalogue, check_free, load_catalogue
from methods.catalogue.method import read_method
from methods.catalogue.toml_keys import KeyProblemError
from methods.catalogue.toml_text import table_text

NOT_COPIED = ("presets",)  # a preset goes on measuring what it did


class RecipeError(Exception):
    """The recipe cannot be read or copied. The text is one sentence for the user."""


def recipe(catalogue: Catalogue, name: str) -> str:
    """The method's table as it can stand in a file of the config folder. Raises RecipeError."""
    return table_text(("methods", name), _row(catalogue, name)) + "\n"


def make_own(name: str, own: str, config_folder: Path) -> Path:
    """A file in the config folder with a copy of the method under its own name. Raises RecipeError."""
    catalogue = load_catalogue(config_folder)
    row = {key: value for key, value in _row(catalogue, name).items() if key not in NOT_COPIED}
    file = config_folder / "methods" / f"{own}.toml"
    try:
        read_method(own, row, catalogue.files[name].parent)
        check_free(own, catalogue.files)
    except KeyProblemError as problem:
        raise RecipeError(f"A method {own!r}: {problem}.") from None
    if os.path.lexists(file):
        raise RecipeError(f"{file} is there already; use another name, or edit that file.")
    text = f"# A copy of {name}, but in no preset. What each key means: docs/adding-a-method.md\n\n"
    try:
        private_folder(file.parent)
        write_atomically(file, (text + table_text(("methods", own), row) + "\n").encode())
    except HomeError as error:
        raise RecipeError(str(error)) from None
    return file


@dataclass(frozen=True, slots=True)
class Judged:
    """The methods that the catalogue takes from a file, and a sentence for each that it rejects."""

    methods: tuple[str, ...]
    problems: tuple[str, ...]


def judged(file: Path, config_folder: Path) -> Judged:
    """A file of the user's as the catalogue reads it now."""
    catalogue = load_catalogue(config_folder)
    return Judged(
        tuple(name for name in catalogue.methods if catalogue.files[name] == file),
        tuple(problem for problem in catalogue.problems if problem.startswith(str(file))),
    )


def _row(catalogue: Catalogue, name: str) -> Mapping[str, object]:
    file = catalogue.files.get(name)
    if file is None:
        raise RecipeError(f"The catalogue has no method {name!r} any more.")
    try:
        methods = read_toml(file)["methods"]
        row = methods[name] if isinstance(methods, dict) else None
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {reason(error)}.") from None
    except (TomlError, KeyError):
        row = None
    if not isinstance(row, dict):
        raise RecipeError(f"{file} has no method {name!r} any more.")
    return row

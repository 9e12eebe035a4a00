"""Python code that comes with a model, which only runs where the user trusts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from methods.base.user_path import kind
from methods.models.config import ConfigError, read_json

SAID_IN = ("config.json", "tokenizer_config.json")
ELSEWHERE = "--"  # org/name--module.Class: the code of another repository


def code_files(folder: Path) -> list[Path]:
    """The Python files in a model's folder, in order."""
    return sorted(path for path in folder.glob("*.py") if kind(path) == "file")


def has_code(folder: Path) -> bool:
    """Whether the model in `folder` names code of its own. Raises ConfigError."""
    return any(True for _ in _classes(folder))


def check_code(folder: Path) -> None:
    """Raises ConfigError where a file of the code that the model names is missing."""
    for name in _classes(folder):
        module = name.rpartition(".")[0]
        if ELSEWHERE not in name and kind(folder / f"{module}.py") != "file":
            raise ConfigError(f"{folder} lacks {module}.py, which holds the model's own code; fetch the model again.")


def _classes(folder: Path) -> Iterator[str]:
    """The classes of its own that a model names: module.Class."""
    for name in SAID_IN:
        if kind(folder / name) != "absent":
            said = read_json(folder / name).get("auto_map")
            values = said.values() if isinstance(said, dict) else ()
            for value in values:
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, str):
                        yield each

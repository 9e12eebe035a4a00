"""A handwritten TOML file: its content, or half a sentence on why it cannot be used."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from methods.base.bounded_read import read_regular

LARGEST_TOML: Final = 4_000_000  # bytes


class TomlError(Exception):
    """The content is not valid TOML; the text is half a sentence that says why."""


def toml_files(folder: Path) -> list[Path]:
    """The TOML files of a folder in order, empty if the folder does not exist. Raises OSError."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except FileNotFoundError:
        return []


def read_toml(path: Path) -> dict[str, object]:
    """The file's top-level table. Raises OSError if it cannot be read and TomlError if it is not valid TOML."""
    try:
        return tomllib.loads(read_regular(path, LARGEST_TOML).decode())
    except tomllib.TOMLDecodeError as error:
        raise TomlError(str(error)) from None
    except UnicodeDecodeError:
        raise TomlError("it is not UTF-8") from None
    except RecursionError:
        raise TomlError("it is nested too deeply") from None
    except ValueError:  # Python converts no number of more than some thousand digits
        raise TomlError("it has a number that is too long") from None

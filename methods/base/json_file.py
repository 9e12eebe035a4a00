"""A JSON file that somebody else wrote: its object, or the sentence that says why there is none."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path

from methods.base.bounded_read import ReadError, read_bytes

LARGEST = 64_000_000


def read_object(path: Path) -> dict[str, object]:
    """The object in the file. Raises ReadError."""
    raw = read_bytes(path, LARGEST, str(path))
    if raw.startswith(codecs.BOM_UTF8):
        raise ReadError(f"{path} begins with a byte order mark, which no engine reads; save it as UTF-8 without one.")
    try:
        content = json.loads(raw.decode())
    except ValueError as error:
        raise ReadError(f"{path} is not valid JSON; fetch or copy the model again.") from error
    except RecursionError as error:
        raise ReadError(f"{path} is nested too deeply; fetch or copy the model again.") from error
    if not isinstance(content, dict):
        raise ReadError(f"{path} does not hold a JSON object; fetch or copy the model again.")
    return content


def read_object_if_there(path: Path) -> dict[str, object]:
    """The same, but nothing where no file has that name. Raises ReadError, also of a link that leads nowhere."""
    return read_object(path) if os.path.lexists(path) else {}

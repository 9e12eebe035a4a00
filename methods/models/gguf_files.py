"""GGUF files as a user names them: one, the parts of one, or the folder that they lie in."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Final

from methods.base.user_path import kind

SUFFIX: Final = ".gguf"
METHOD: Final = "gguf"  # of quantisation, as a model's facts name it: whatever is in it, only llama.cpp reads it
PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
HEADER: Final = struct.Struct("<4sI")


class GgufError(Exception):
    """What is named is not a GGUF that can be run. The text is one sentence for the user."""


def is_named(path: Path) -> bool:
    """Whether a path names a GGUF: by its ending, or as a folder that holds one and no other model."""
    if path.name.lower().endswith(SUFFIX):
        return True
    if not os.path.isdir(path):
        return False
    try:
        names = os.listdir(path)  # noqa: PTH208 - names, not paths
    except OSError:
        return False
    return any(name.lower().endswith(SUFFIX) for name in names) and not any(
        name == "config.json" or name.endswith(".safetensors") for name in names
    )


def gguf_files(path: Path) -> list[Path]:
    """The file that `path` names, or all its parts in order, their headers looked at. Raises GgufError, OSError."""
    files = _in_folder(path) if os.path.isdir(path) else _parts_of(path)
    for file in files:
        there = kind(file)
        if there != "file":
            raise GgufError(f"{file} does not exist." if there == "absent" else f"{file} is not a file.")
        with file.open("rb") as opened:
            head = opened.read(HEADER.size)
        if len(head) < HEADER.size or head[:4] != MAGIC:
            where = f"{path} holds GGUF by its files' names, but {file.name}" if os.path.isdir(path) else str(file)
            raise GgufError(f"{where} does not begin like one; fetch it again.")
        version = HEADER.unpack(head)[1]
        if version not in VERSIONS:
            raise GgufError(f"{file} is a GGUF of version {version}; versions 2 and 3 can be read.")
    return files


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(each for each in folder.iterdir() if each.name.lower().endswith(SUFFIX))
    files = [each for each in files if not each.name.lower().startswith("mmproj")]  # of images, beside the model
    models = {PART.sub(r"\g<stem>", each.name) for each in files}
    if len(models) != 1:
        raise GgufError(f"{folder} holds {len(models)} models as GGUF; name one of the files.")
    return _parts_of(files[0])


def _parts_of(file: Path) -> list[Path]:
    found = PART.fullmatch(file.name)
    if found is None:
        return [file]
    count = int(found["count"])
    return [file.with_name(f"{found['stem']}-{number:05}-of-{count:05}{file.suffix}") for number in range(1, count + 1)]

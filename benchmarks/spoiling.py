"""Ways in which a file, a folder or an environment variable that Kasoku reads can be other than it should be."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

CAP_DAC: Final = ~(1 << 1 | 1 << 2)  # the capabilities by which root reads and enters everything
HUGE_BYTES: Final = 1 << 33  # of holes: more than a trial may have in memory, and nothing on the disk


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(target: str) -> Callable[[Path, random.Random], None]:
    def spoil(path: Path, drawn: random.Random) -> None:
        del drawn
        _removed(path)
        path.symlink_to(target if target != "itself" else path.name)

    return spoil


def _written(content: bytes) -> Callable[[Path, random.Random], None]:
    def spoil(path: Path, drawn: random.Random) -> None:
        del drawn
        _removed(path)
        path.write_bytes(content)

    return spoil


def _mode(mode: int) -> Callable[[Path, random.Random], None]:
    def spoil(path: Path, drawn: random.Random) -> None:
        del drawn
        path.chmod(mode)

    return spoil


def missing(path: Path, drawn: random.Random) -> None:
    del drawn
    _removed(path)


def folder(path: Path, drawn: random.Random) -> None:
    del drawn
    _removed(path)
    path.mkdir()


def pipe(path: Path, drawn: random.Random) -> None:
    del drawn
    _removed(path)
    os.mkfifo(path)


def socket_file(path: Path, drawn: random.Random) -> None:
    del drawn
    _removed(path)
    at = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:  # by way of /proc: the path may be too long for a socket
            listening.bind(f"/proc/self/fd/{at}/{path.name}")
    finally:
        os.close(at)


def huge(path: Path, drawn: random.Random) -> None:
    del drawn
    if path.is_file():
        os.truncate(path, HUGE_BYTES)


def torn(path: Path, drawn: random.Random) -> None:
    if path.is_file():
        os.truncate(path, drawn.randrange(path.stat().st_size + 1))


def damaged(path: Path, drawn: random.Random) -> None:
    """A few bytes replaced."""
    if path.is_file() and (raw := bytearray(path.read_bytes())):
        for _ in range(drawn.randint(1, 8)):
            raw[drawn.randrange(len(raw))] = drawn.randrange(256)
        path.write_bytes(raw)


def twice(path: Path, drawn: random.Random) -> None:
    """Its content, and again."""
    del drawn
    if path.is_file():
        path.write_bytes(path.read_bytes() * 2)


def in_utf_16(path: Path, drawn: random.Random) -> None:
    del drawn
    if path.is_file():
        path.write_bytes(path.read_bytes().decode(errors="replace").encode("utf-16"))


WAYS: Final[dict[str, Callable[[Path, random.Random], None]]] = {
    "missing": missing,
    "a folder": folder,
    "a FIFO": pipe,
    "a socket": socket_file,
    "huge": huge,
    "torn": torn,
    "damaged": damaged,
    "twice": twice,
    "UTF-16": in_utf_16,
    "endless": _link("/dev/zero"),
    "a link to nothing": _link("nowhere/at/all"),
    "a link to itself": _link("itself"),
    "/dev/null": _link("/dev/null"),
    "/dev/full": _link("/dev/full"),
    "empty": _written(b""),
    "blank": _written(b"\n \t\r\n"),
    "a NUL": _written(b"\0"),
    "random bytes": lambda path, drawn: _written(drawn.randbytes(3000))(path, drawn),
    "Latin-1": _written("prompt = 'é'\n{\"ü\": 1}".encode("latin-1")),
    "a BOM": _written(b"\xef\xbb\xbf"),
    "an object": _written(b"{}"),
    "an object of others": _written(b'{"schema_version": 1, "k": 7, "methods": {"a": []}, "status": null}'),
    "a list": _written(b"[1, null]"),
    "nested": _written(b"[" * 100_000),
    "nested objects": _written(b'{"a":' * 100_000),
    "a large number": _written(b'{"schema_version": 1' + b"0" * 6000 + b"}"),
    "one long line": _written(b'{"k": "' + b"x" * 3_000_000),
    "a table": _written(b"[methods]\nx = 1\n[[environments]]\npython = 3\n"),
    "read-only": _mode(0o400),
    "unreadable": _mode(0),
    "not to be entered": _mode(0o600),
}

ODD_VALUES: Final = (
    "", "0", "-1", "1" * 400, "nonsense", "relative/path", "/nowhere/at/all", "/dev/null", "/proc/self/mem", "a\nb",
    "\udcff\udcfe", "é" * 300, "~nobody-of-this-name/x", "~", "/" + "x" * 5000, "$HOME", "{}", "%",
)  # fmt: skip
VARIABLES: Final = (
    "HOME", "KASOKU_HOME", "KASOKU_CONFIG", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "TMPDIR", "TERM", "COLUMNS", "LINES", "LANG", "LC_ALL", "TZ", "PATH", "NO_COLOR", "FORCE_COLOR", "COLORTERM",
    "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHONPATH", "VIRTUAL_ENV",
    "USER", "SHELL", "PIP_INDEX_URL", "UV_FIND_LINKS", "container",
)  # fmt: skip
ENCODINGS: Final = ("utf-8", "utf-8", "ascii", "latin-1", "cp1252", "utf-16")


def give_up_privileges() -> None:
    """Let permissions count for root too."""
    library = ctypes.CDLL(None)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()
    if library.capget(head, held) == 0:
        held[0] &= CAP_DAC & 0xFFFFFFFF
        library.capset(head, held)

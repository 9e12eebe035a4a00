"""What is written instead of a sign that the encoding of stdout or stderr does not have.

Text that is printed gets an ASCII sign of ours, or the sign's number as JSON and Python write it, so that nothing of a
name is lost. What is drawn on a terminal gets as many cells as the sign would take, so that nothing is moved.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
import unicodedata
from typing import Final

PRINTED, DRAWN = "kasoku-printed", "kasoku-drawn"  # the names of the error handlers
SIGNS: Final = {
    "✓": "+", "✗": "x", "·": "-", "×": "x", "÷": "/", "±": "~", "µ": "u", "°": "o", "…": ".",
    "−": "-", "–": "-", "—": "-", "→": ">", "←": "<", "↵": "<", "≠": "#", "▶": ">", "▼": "v", "▲": "^", "●": "*",
    "○": "o", "□": "D", "△": "A", "◇": "&", "▽": "V", "☆": "w",
    "■": "#", "◆": "%", "★": "*", "━": "=", "✚": "+", "Σ": "S", "’": "'", "‘": "'", "“": '"', "”": '"',
    "\ufffd": "?", "\xa0": " ",
}  # fmt: skip
LONGER: Final = {"±": "+/-", "…": "...", "→": "->", "≠": "!="}  # where nothing has to stay below something else
BOXES, BLOCKS, BRAILLE = range(0x2500, 0x2580), range(0x2580, 0x25A0), range(0x2800, 0x2900)
EMPTY_BRAILLE: Final = 0x2800


def use_what_stdout_and_stderr_have() -> None:
    """Have both replace what their encoding lacks; streams of another kind, as in tests, stay as they are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):  # it is flushed first
                stream.reconfigure(errors=PRINTED)


def draw_with_what_stderr_has() -> None:
    """The same for what the workbench draws (Textual does so on stderr, or on stdout where that is not a terminal)."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):
                stream.reconfigure(errors=DRAWN)


def _ascii(sign: str) -> str | None:
    """One ASCII sign that stands for this one, None where there is none."""
    number = ord(sign)
    if sign in SIGNS:
        return SIGNS[sign]
    if number in BOXES:
        name = unicodedata.name(sign)
        level, upright = "HORIZONTAL" in name, "VERTICAL" in name
        return "+" if level == upright else "-" if level else "|"
    if number in BLOCKS:
        return "#"
    if number in BRAILLE:
        return " " if number == EMPTY_BRAILLE else ":"
    return None


def _printed(sign: str) -> str:
    known = LONGER.get(sign) or _ascii(sign)
    if known is not None:
        return known
    halves = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[at : at + 2].hex()}" for at in range(0, len(halves), 2))


def _drawn(sign: str) -> str:
    wide = unicodedata.east_asian_width(sign) in ("W", "F")
    return _ascii(sign) or ("??" if wide else "" if unicodedata.combining(sign) else "?")


def _handle_printed(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_printed, error.object[error.start : error.end])), error.end


def _handle_drawn(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_drawn, error.object[error.start : error.end])), error.end


codecs.register_error(PRINTED, _handle_printed)
codecs.register_error(DRAWN, _handle_drawn)

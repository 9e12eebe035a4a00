"""Text from models, logs and file names, made harmless for a terminal."""

from __future__ import annotations

import codecs
import json
import re
import sys

# Control characters of both ranges, what changes the direction of text, and halves of surrogate pairs, which no
# terminal's encoding has.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
BREAKS = re.compile(r"[\t\n]+")
NOT_PRINTABLE = re.compile(rf"{CONTROL.pattern}|{BREAKS.pattern}")


def plain(text: str) -> str:
    """The text with every control and direction-changing character shown as �; line breaks and tabs stay."""
    return CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def printable(text: str) -> str:
    """The same for a part of a line: nothing in it moves the cursor, line breaks and tabs are spaces."""
    return BREAKS.sub(" ", CONTROL.sub("\ufffd", text)) if NOT_PRINTABLE.search(text) else text


def json_document(value: object) -> str:
    """JSON for stdout, for programs and people.

    What a terminal would obey, and JSON lets through, is written as `\\u009b`; so is every sign beyond ASCII where the
    encoding of stdout may lack it.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    whole = codecs.lookup(encoding).name.startswith("utf-")
    text = json.dumps(value, ensure_ascii=not whole, indent=1, default=str)
    return CONTROL.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text) + "\n"


def one_line(text: str, width: int = 200) -> str:
    """The same on one line, cut at `width` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"

"""Text from models, logs and file names, made harmless for a terminal."""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def plain(text: str) -> str:
    """The text with every control and direction-changing character shown as �; line breaks and tabs stay."""
    return CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def one_line(text: str, width: int = 200) -> str:
    """The same on one line, cut at `width` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"

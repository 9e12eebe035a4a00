"""Asking the system what it may not tell: /proc may be hidden, cut or empty in a container, and psutil then raises
whatever its parsing stumbles over.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def answer(ask: Callable[[], Answer]) -> Answer | None:
    """What the system answers; None where asking fails in any way, or the answer comes with a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # psutil's, for a figure that it could not find out and has put as 0
            return ask()
    except Exception:
        return None

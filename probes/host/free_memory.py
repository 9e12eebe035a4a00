"""How much memory is free."""

from __future__ import annotations

import psutil

from probes.base.answer import answer


def free_memory() -> int | None:
    """Bytes that programs can take without swapping; None if not reported by this system."""
    return answer(lambda: int(psutil.virtual_memory().available))

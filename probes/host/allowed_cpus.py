"""The logical CPUs that this process may use."""

from __future__ import annotations

import os

from probes.base.answer import answer


def allowed_cpus() -> frozenset[int]:
    """Their numbers: all of the machine's where a sandbox does not tell."""
    return frozenset(answer(lambda: os.sched_getaffinity(0)) or range(os.cpu_count() or 1))

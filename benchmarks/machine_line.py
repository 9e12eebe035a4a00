"""The date, the machine and the versions: what a benchmark prints above its figures."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path


def machine_line(*packages: str) -> str:
    """One line; `packages` are those whose version matters."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
    cores = f"{os.cpu_count()} cores ({len(os.sched_getaffinity(0))} allowed)"
    kernel = f"{platform.system()} {platform.release()}"
    when = time.strftime("%Y-%m-%d %H:%M %Z")
    return f"{when} · {model}, {cores}, {kernel} · {versions} · load {os.getloadavg()[0]:.2f}"

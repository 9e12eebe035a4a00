"""What the first screen says of this machine: its devices, and what was measured on it last."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from tui.words import figures
from tui.words.answer import headline
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from probes.gpu.nvml import Nvml
    from sessions.disk.store import Store


def device_words(nvml: Nvml) -> tuple[str, ...]:
    """A phrase for the GPUs, if there are any, and one for the CPU."""
    from probes.capture import capture

    machine = capture(nvml)
    words = []
    names = list(dict.fromkeys(gpu.name or "GPU" for gpu in machine.gpus))
    for name in names:
        own = [gpu for gpu in machine.gpus if (gpu.name or "GPU") == name]
        parts = [f"{len(own)} × {name}" if len(own) > 1 else name, figures.size(own[0].memory_total_bytes)]
        words.append(" · ".join(one_line(part, 60) for part in parts if part != figures.UNKNOWN))
    if words and machine.gpu_driver:
        words[-1] += f" · driver {one_line(machine.gpu_driver, 20)}"
    cores = machine.cores_physical or machine.cores_logical
    host = [
        one_line(machine.cpu_model or "CPU", 60),
        f"{cores} core{'s' if cores != 1 else ''}" if cores else "",
        f"{figures.size(machine.ram_total_bytes)} RAM" if machine.ram_total_bytes else "",
        machine.limits(),
        "" if words else "no GPU",
    ]
    return (*words, " · ".join(part for part in host if part))


def last_measured(store: Store) -> str:
    """The answer of the newest session that has ended, in a sentence; empty where there is none that says anything."""
    from sessions.close.session_end import recover
    from sessions.disk.session_folder import SessionError
    from sessions.verdict.comparison import ComparisonError, compare

    for row in store.listed()[:3]:
        if row.status != "finished" or row.problem:
            continue
        try:
            recover(store.folder(row.id))  # the built-in recording has no frames until somebody looks
            said = headline(compare(store, [(row.id, None)]))
        except (SessionError, ComparisonError):
            continue
        if not said:
            continue
        when = datetime.fromtimestamp(row.created_ns / 1e9).astimezone()
        return f"{one_line(row.model, 40)}, {when:%d %b %H:%M}: {said}"
    return ""

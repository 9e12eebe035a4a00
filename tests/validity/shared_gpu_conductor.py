"""The conductor of a session on a GPU whose driver is simulated, and which another process joins when asked to.

    python -m tests.validity.shared_gpu_conductor SESSION_FOLDER LOCK_FD SIGNS

SIGNS is a folder of empty files: the runner has a context on the GPU while `context` is there, another process has one
while `other` is there, and `listed` appears once the driver has listed it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from sessions.run import conductor
from tests.probes.fake_nvml import GIB, FakeNvml


class JoinedGpu(FakeNvml):
    """One GPU with the processes that the signs say."""

    def __init__(self, signs: Path) -> None:
        super().__init__()
        self.signs = signs

    def _answer(self, name: str, handle: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if name != "nvmlDeviceGetComputeRunningProcesses":
            return super()._answer(name, handle, arguments, options)
        pids = []
        if (self.signs / "context").exists():
            pids += [child.pid for child in psutil.Process().children(recursive=True) if _is_runner(child)]
        if (self.signs / "other").exists():
            pids.append(os.getppid())
            (self.signs / "listed").touch()
        return [SimpleNamespace(pid=pid, usedGpuMemory=GIB) for pid in pids]


def _is_runner(process: psutil.Process) -> bool:
    """Whether it is the runner itself, and not the warden that started it."""
    try:
        line = process.cmdline()
    except psutil.Error:
        return False
    return any(part.endswith("methods/runner") for part in line) and not any("warden" in part for part in line)


if __name__ == "__main__":
    sys.modules["pynvml"] = JoinedGpu(Path(sys.argv[3]))  # type: ignore[assignment]
    sys.exit(conductor.main(sys.argv[1:3]))

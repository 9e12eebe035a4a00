"""A driver whose faults are switched while a session runs: a file says what goes wrong, also in another process.

    {"fail": {"nvmlDeviceGetFieldValues": 999, "*": 15}, "give": {"nvmlDeviceGetClockInfo": -5, "*": "rubbish"},
     "hang": {"nvmlDeviceGetUtilizationRates": 3.0}}

`fail` holds NVML's error codes, `give` what is returned instead, `hang` the seconds that a call takes; `*` is every
call that has none of its own, but those that start NVML, and `*@3` each that is of GPU 3.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from tests.probes.fake_nvml import FakeNvml, FakeNvmlError

STARTS: Final = ("nvmlInit", "nvmlSystem", "nvmlDeviceGetCount", "nvmlDeviceGetHandle", "nvmlDeviceGetUUID")
MODULE: Final = """
import sys
from pathlib import Path
from tests.probes.scripted_driver import ScriptedDriver
sys.modules[__name__] = ScriptedDriver(Path({faults!r}), {count})
"""


class ScriptedDriver(FakeNvml):
    """FakeNvml with the faults that the file `faults` holds at each call; none while there is no such file."""

    def __init__(self, faults: Path, count: int = 1) -> None:
        super().__init__(count)
        self._faults = faults

    def _call(self, name: str, handle: Any = None, *arguments: Any, **options: Any) -> Any:
        try:
            faults = json.loads(self._faults.read_text())
        except FileNotFoundError:
            faults = {}
        time.sleep(faults.get("hang", {}).get(name, 0.0))
        starts = name.startswith(STARTS)
        fail = faults.get("fail", {})
        failure = fail.get(name, None if starts else fail.get(f"*@{handle}", fail.get("*")))
        if failure is not None:
            raise FakeNvmlError(failure)
        given = faults.get("give", {})
        if name in given or ("*" in given and not starts):
            return given.get(name, given.get("*"))
        return super()._call(name, handle, *arguments, **options)


def as_pynvml(folder: Path, faults: Path, count: int = 1) -> Path:
    """A folder that, put on PYTHONPATH, has this driver of so many GPUs for its module `pynvml`."""
    folder.mkdir()
    (folder / "pynvml.py").write_text(MODULE.format(faults=str(faults), count=count))
    return folder

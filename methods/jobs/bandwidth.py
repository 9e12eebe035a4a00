"""The memory bandwidth of a device, measured once and remembered: `cache/bandwidth.json` of the home."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from methods.base.home import CACHE, HomeError, private_folder, write_atomically
from methods.base.interpreter import Interpreter
from methods.base.progress import Report, silent
from methods.jobs.runner_job import JobError, run_job

FILE: Final = "bandwidth.json"
RATES: Final = ("read_bytes_s", "copy_bytes_s")
SECONDS: Final = 2.0


def bandwidth(
    home: Path,
    key: str,
    interpreter: Interpreter | None,
    *,
    gpu_uuids: Sequence[str] = (),
    gpu_visible: Sequence[str] = (),
    threads: int = 1,
    report: Report = silent,
) -> Mapping[str, object]:
    """read_bytes_s and copy_bytes_s of a device, as measured by torch in `interpreter`; of several GPUs the sum.

    `key` names the device and what its bandwidth depends on, such as its UUID and driver. What was measured under that
    key before is taken from the cache. Where it cannot be measured there is a `reason` instead; only `report` raises.
    """
    known = _known(home)
    if (kept := known.get(key)) is not None:
        return kept
    if interpreter is None:
        return {"reason": "no environment with torch is ready here to measure the bandwidth"}
    variables = {
        **interpreter.variables,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(gpu_visible),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
    job: dict[str, object] = {
        "job": "bandwidth",
        "device": "cuda" if gpu_uuids else "cpu",
        "gpu_uuids": list(gpu_uuids),
        "threads": threads,
        "seconds": SECONDS,
    }
    try:
        log = private_folder(home / CACHE) / "bandwidth.log"
        result = run_job(replace(interpreter, variables=variables), job, log, report)
        if not all(_positive(result.get(name)) for name in RATES):
            return {"reason": "measuring the bandwidth gave no number"}
        kept = {**result, "key": key}
        content = json.dumps({**known, key: kept}, indent=1).encode()
        write_atomically(private_folder(home / CACHE) / FILE, content)
    except JobError as error:
        return {"reason": f"measuring the bandwidth failed: {error}"}
    except HomeError as error:
        return {"reason": str(error)}
    return kept


def _known(home: Path) -> dict[str, Mapping[str, object]]:
    """What was measured before; entries that are none are left out."""
    try:
        content = json.loads((home / CACHE / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    rows = content.items() if isinstance(content, dict) else ()
    return {key: row for key, row in rows if isinstance(row, dict) and all(_positive(row.get(name)) for name in RATES)}


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")

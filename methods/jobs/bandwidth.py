"""The memory bandwidth of a device, measured once and remembered: `cache/bandwidth.json` of the home."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from methods.base.bounded_read import read_regular
from methods.base.home import CACHE, HomeError, private_folder, write_atomically
from methods.base.interpreter import Interpreter
from methods.base.memory_bandwidth import MemoryBandwidth
from methods.base.progress import Report, silent
from methods.jobs.runner_job import JobError, run_job

FILE: Final = "bandwidth.json"
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
) -> MemoryBandwidth:
    """The bandwidth of a device, as measured by torch in `interpreter`.

    `key` names the device and what its bandwidth depends on, such as its UUID and driver. A value measured under that
    key before is taken from the cache. Where it cannot be measured it has a `reason`; only `report` raises.
    """
    known = _known(home)
    if (kept := known.get(key)) is not None:
        return kept
    if interpreter is None:
        return MemoryBandwidth(reason="the bandwidth cannot be measured: no environment with torch is ready")
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
        measured = _measured(result, key)
        if measured is None:
            return MemoryBandwidth(reason="the bandwidth measurement returned no number")
        rows = {name: asdict(row) for name, row in {**known, key: measured}.items()}
        content = json.dumps(rows, indent=1).encode()
        write_atomically(private_folder(home / CACHE) / FILE, content)
    except JobError as error:
        return MemoryBandwidth(reason=f"the bandwidth measurement failed: {error}")
    except HomeError as error:
        return MemoryBandwidth(reason=str(error))
    return measured


def _known(home: Path) -> dict[str, MemoryBandwidth]:
    """Earlier measurements; invalid entries are skipped."""
    try:
        content = json.loads(read_regular(home / CACHE / FILE).decode())
    except (OSError, ValueError, RecursionError):
        return {}
    rows = content.items() if isinstance(content, dict) else ()
    read = {key: _measured(row, key) for key, row in rows if isinstance(row, dict)}
    return {key: row for key, row in read.items() if row is not None}


def _measured(row: Mapping[str, object], key: str) -> MemoryBandwidth | None:
    """What the runner said, or the cache kept of it; None if either rate is invalid."""
    read, copy = _rate(row.get("read_bytes_s")), _rate(row.get("copy_bytes_s"))
    if read is None or copy is None:
        return None
    buffer, devices, torch = row.get("buffer_bytes"), row.get("devices"), row.get("torch")
    return MemoryBandwidth(
        read_bytes_s=read,
        copy_bytes_s=copy,
        buffer_bytes=buffer if isinstance(buffer, int) else None,
        devices=devices if isinstance(devices, int) else None,
        torch=str(torch or ""),
        key=key,
    )


def _rate(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        return None
    return float(value)

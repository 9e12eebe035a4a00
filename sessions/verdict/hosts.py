"""Of which host absolute figures are, where sessions were measured on several."""

from __future__ import annotations

from collections.abc import Mapping

from sessions.disk.session_folder import SessionFile

SHOWN = ("kasoku", "python")


def hosts_told(files: Mapping[str, SessionFile]) -> tuple[str, ...]:
    """A sentence for each session of a host that was named; none where there is no such session."""
    return tuple(f"{session} is of {told(file)}." for session, file in files.items() if file.host)


def told(file: SessionFile) -> str:
    """ "h100: node-7, NVIDIA H200, driver 580.95, kasoku 0.1.0, python 3.11.7", as far as it is known."""
    machine = file.machine
    on_gpu = bool(file.plan.gpu_uuids)
    device = file.plan.device_name if on_gpu else f"{machine.cpu_model or 'CPU'}, {file.plan.threads} threads"
    driver = f"driver {machine.gpu_driver}" if on_gpu and machine.gpu_driver else ""
    versions = [f"{name} {file.software[name]}" for name in SHOWN if name in file.software]
    return f"{file.host}: {', '.join(filter(None, (machine.hostname, device, driver, *versions)))}"

"""`--spread`: how many rounds of a plan are measured side by side, each on its own part of the device."""

from __future__ import annotations

from collections.abc import Mapping

from sessions.device.affinity import physical_cores, shared_out
from sessions.device.devices import Device
from sessions.disk.option_table import Value
from sessions.disk.options import RunOptions
from sessions.planning.points import is_asked
from sessions.planning.wanted import PlanError


def lanes_on(device: Device, said: Mapping[str, Value]) -> int:
    """How many lanes were asked for on a device; 1 where none were. Raises PlanError."""
    if "spread" not in said:
        return 1
    asked, gpus = int(said["spread"]), len(device.uuids)
    if asked == 1:
        raise PlanError("--spread 1 is one round after another, as without it: leave it out, or say a higher number.")
    if gpus == 1:
        raise PlanError("--spread goes over several GPUs, and this session has one: name them, as in --devices 0,1.")
    if gpus:
        lanes = asked or gpus
        if gpus % lanes:
            raise PlanError(f"--spread {lanes}: the session's {gpus} GPUs cannot be shared out evenly.")
        return lanes
    if not asked:
        raise PlanError("--spread on the CPU goes over its cores: say how many rounds at once, as in --spread 2.")
    most = len(physical_cores(shared_out().runner))
    if asked > most:
        cores_there = "only one physical core" if most == 1 else f"{most} physical cores"
        raise PlanError(f"--spread {asked}: there are {cores_there} for what is measured, and a round takes one.")
    return asked


def check_lanes(options: RunOptions) -> None:
    """Raise PlanError where rounds side by side do not go with what else was asked for."""
    if options.spread is None:
        return
    if is_asked(options.loads):
        raise PlanError("--spread and a load exclude each other: what makes the requests would share its core.")
    if options.server is not None:
        raise PlanError("--spread and --server exclude each other: the rounds would all ask the same server.")

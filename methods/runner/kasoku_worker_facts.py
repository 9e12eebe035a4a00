"""What the processes that an engine starts know of themselves: their memory, their GPU and what ran in them."""

from __future__ import annotations

from pathlib import Path

import kasoku_children
from kasoku_failure import UnsupportedError


def bytes_of(tensors: object) -> int | None:
    """The memory behind nested lists and tensors, in bytes, each storage once; None if there are none."""
    storages: dict = {}

    def visit(node: object) -> None:
        if hasattr(node, "untyped_storage"):
            storage = node.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(node, (list, tuple)):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            visit(list(node.values()))

    visit(tensors)
    return sum(storages.values()) if storages else None


def gpu_uuid(device: object) -> str | None:
    """The UUID of a CUDA device, None of any other."""
    import torch

    if getattr(device, "type", None) != "cuda":
        return None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else "GPU-" + str(uuid).replace("GPU-", "").lower()


def verify_gpus(job: dict, workers: list, engine: str) -> None:
    """UnsupportedError where the workers say by `gpu_uuid` that they are on other GPUs than the job's."""
    wanted = [uuid.replace("GPU-", "").lower() for uuid in job.get("gpu_uuids") or ()]
    seen = [str(worker["gpu_uuid"]).replace("GPU-", "") for worker in workers if worker["gpu_uuid"]]
    if wanted and seen and sorted(seen) != sorted(wanted):
        raise UnsupportedError(
            "The session has the GPUs %s, but %s's workers are on %s." % (", ".join(wanted), engine, ", ".join(seen))
        )


def allocator_peaks() -> dict:
    """The peaks of torch's allocator on this process's GPU; None on a CPU, which has none."""
    import torch

    if not torch.cuda.is_available():
        return {"peak_allocated_bytes": None, "peak_reserved_bytes": None}
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
    }


def begun_profile() -> object:
    """A profile of this process's ops and kernels, from now on."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profile = torch.profiler.profile(activities=activities)
    profile.start()
    return profile


def calls_of(profile: object) -> dict:
    """{name of op or kernel: calls} since the profile began. It ends."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    profile.stop()
    return {row.key: row.count for row in profile.key_averages()}


def peak_rss_of_tree(pid: int) -> int | None:
    """The sum of the peaks of resident memory (VmHWM) of a process and all its descendants, in bytes."""
    return sum(peak_rss_of(each) for each in [pid, *kasoku_children.descendants(pid)]) or None


def peak_rss_of(pid: int) -> int:
    """A process's VmHWM in bytes; 0 if it is gone."""
    try:
        status = Path("/proc/%d/status" % pid).read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))

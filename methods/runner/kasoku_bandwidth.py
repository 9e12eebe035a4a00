"""The job `bandwidth`: how fast this device copies and reads memory, by torch.

Job: {"schema": 1, "job": "bandwidth", "device": "cpu"|"cuda", "threads": 2, "gpu_uuids": [...], "seconds": 1.0}.
Result: {"read_bytes_s": …, "copy_bytes_s": …, "buffer_bytes": …, "devices": 1, "torch": "2.13.0"}; the rates of several
GPUs are added up.

A copy moves its bytes twice, once read and once written. The best of many passes counts: the aim is the
limit, and any disturbance only lowers it.
"""

from __future__ import annotations

import time
from pathlib import Path

GPU_BUFFER_BYTES = 1 << 30
CPU_BUFFER_BYTES = (1 << 28, 1 << 31)  # at least, at most; between them eight times the last cache
PASSES_AT_ONCE = 8
FLOAT_BYTES = 4


def run(job: dict, wire: object) -> None:
    import torch

    seconds = float(job.get("seconds") or 1.0)
    if job.get("device") == "cuda":
        import kasoku_torch_facts

        kasoku_torch_facts.verify_gpus(list(job.get("gpu_uuids") or ()))
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    else:
        if job.get("threads"):
            torch.set_num_threads(job["threads"])
        devices = [torch.device("cpu")]
    rates = []
    for number, device in enumerate(devices):
        wire.progress("bandwidth", str(device), number, len(devices), "devices")
        rates.append(measured(torch, device, seconds))
    wire.result(
        {
            "read_bytes_s": sum(rate["read_bytes_s"] for rate in rates),
            "copy_bytes_s": sum(rate["copy_bytes_s"] for rate in rates),
            "buffer_bytes": rates[0]["buffer_bytes"],
            "devices": len(devices),
            "torch": torch.__version__,
        }
    )


def measured(torch: object, device: object, seconds: float) -> dict:
    """Both rates of one device, each measured for about half of `seconds`."""
    size = buffer_bytes(torch, device)
    source = torch.ones(size // FLOAT_BYTES, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)  # written once, so that no page is mapped in the first pass
    readers = (source.sum, source.amax, lambda: torch.dot(source, source))
    copy = best_pass_s(torch, device, lambda: target.copy_(source), seconds / 2)
    read = min(best_pass_s(torch, device, reader, seconds / 2 / len(readers)) for reader in readers)
    return {"read_bytes_s": size / read, "copy_bytes_s": 2 * size / copy, "buffer_bytes": size}


def buffer_bytes(torch: object, device: object) -> int:
    """Much larger than any cache, and at most an eighth of free memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return min(GPU_BUFFER_BYTES, max(free // 8, 1 << 26))
    least, most = CPU_BUFFER_BYTES
    size = min(max(8 * last_cache_bytes(), least), most)
    free = available_bytes()
    return size if free is None else min(size, max(free // 8, 1 << 26))


def best_pass_s(torch: object, device: object, work: object, seconds: float) -> float:
    """Seconds that the fastest pass took; a GPU does several as one, so that launching them is hidden."""
    on_gpu = device.type == "cuda"
    passes = PASSES_AT_ONCE if on_gpu else 1
    work()
    best = float("inf")
    until = time.perf_counter() + seconds
    rounds = 0
    while rounds < 3 or time.perf_counter() < until:
        if on_gpu:
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        for _ in range(passes):
            work()
        if on_gpu:
            torch.cuda.synchronize(device)
        best = min(best, (time.perf_counter() - began) / passes)
        rounds += 1
    return best


def last_cache_bytes() -> int:
    """Size of the first core's largest cache; 32 MiB if this system does not report it."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    try:
        files = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
        texts = [file.read_text(encoding="ascii").strip() for file in files]
        return max(int(text.rstrip("KMG")) * units.get(text[-1:], 1) for text in texts)
    except (OSError, ValueError):  # no file is no value either
        return 1 << 25


def available_bytes() -> int | None:
    """Available memory, None if this system does not report it."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None

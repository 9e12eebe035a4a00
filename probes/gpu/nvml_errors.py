"""NVML's errors in words: what is wrong and what to do."""

from __future__ import annotations

from typing import Any, Final

from probes.base.reading import printable

NOT_FOUND: Final = "no NVIDIA driver on this machine: GPU metrics are absent"

# Return codes of nvml.h.
NO_PERMISSION, LIBRARY_MISSING, FUNCTION_MISSING, GPU_LOST, RESET_REQUIRED = 4, 12, 13, 15, 16
SENTENCES: Final[dict[int, str]] = {
    1: "NVML was shut down: start the session again",
    3: "not supported by this GPU or its driver",
    NO_PERMISSION: "no permission to ask the NVIDIA driver: this user needs access to /dev/nvidia* "
    "(in a container, start it with its GPUs)",
    9: "the NVIDIA driver is installed but not loaded: run `sudo modprobe nvidia` or reboot; GPU metrics are absent",
    LIBRARY_MISSING: NOT_FOUND,
    FUNCTION_MISSING: "this NVIDIA driver is too old to report it: update the driver",
    GPU_LOST: "the GPU has fallen off the bus: check `sudo dmesg | grep Xid`, then reboot",
    RESET_REQUIRED: "the GPU needs a reset: end what uses it, then run `sudo nvidia-smi --gpu-reset`, or reboot",
    18: "the NVIDIA driver was updated while its old kernel module is loaded: reboot; GPU metrics are absent",
    23: "the driver is out of resources: end other monitoring programs",
    25: "this NVIDIA driver does not support this version of the call: update the driver",
    28: "the GPU is gone: check `nvidia-smi`",
}
# The GPU answers nothing any more: asking it ten times a second for every metric would only repeat that.
GONE: Final = frozenset({1, 9, GPU_LOST, RESET_REQUIRED, 18, 28})
# What a driver answers for good when it cannot do something (invalid argument, not supported, no permission…).
NEVER: Final = frozenset({2, 3, NO_PERMISSION, FUNCTION_MISSING, 25, 26})


def code(error: BaseException) -> int | None:
    """NVML's return code in a pynvml exception, None for any other exception."""
    value: Any = getattr(error, "value", None)
    return value if isinstance(value, int) else None


def explain(error: BaseException) -> str:
    """One sentence for `error`: what is wrong and, if possible, what to do."""
    if isinstance(error, ImportError):
        return "the package nvidia-ml-py is not installed: GPU metrics are absent; run `pip install nvidia-ml-py`"
    number = code(error)
    if number is None:
        return f"reading it failed: {type(error).__name__}: {printable(str(error))}"
    if number in SENTENCES:
        return SENTENCES[number]
    try:
        text = printable(str(error))
    except Exception:  # pynvml asks the library for the text, which may be the very thing that is broken
        text = "no text"
    return f"NVML error {number}: {text}"

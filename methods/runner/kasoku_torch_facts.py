"""What torch reports about its process: ops of a profiled step, what Dynamo compiled, memory peaks, GPUs."""

from __future__ import annotations

import re
import sys

from kasoku_tensor_parts import dtype_name, parts_of

FUSED_ATTENTION = re.compile(
    r"scaled_dot_product|flash|fmha|flex_attention|paged_attention|attention|_fwd_(grouped_)?kernel_stage",
    re.IGNORECASE,
)
PLAIN_ATTENTION = re.compile(r"^aten::(bmm|baddbmm|_?softmax)$|softmax_warp_forward|SoftMaxForward", re.IGNORECASE)
COMPILED_REGION = "Torch-Compiled Region"
COMPILED_GRAPH = "## Call CompiledFxGraph"  # compiled ahead of time, a graph runs without its region
PACKED = ("int8", "uint8", "int32", "uint32", "float8", "float4")  # the types of weights that are still quantised
PEAKS = ("peak_allocated_bytes", "peak_reserved_bytes")
NO_PEAK = "torch keeps no peak for memory on the CPU; see peak_rss_bytes."
COLLECTIVE = re.compile(
    r"nccl|gloo|c10d::|all_?reduce|all_?gather|reduce_?scatter|cross_device_reduce|multimem|shm_(gather|send|recv)",
    re.IGNORECASE,
)
GRAPH_LAUNCH = re.compile(r"^(cuda|hip)GraphLaunch$")


def still_packed(tensors: object) -> bool:
    """Whether any of a model's tensors are held in the form in which they were quantised."""
    return any(dtype_name(part).startswith(PACKED) for tensor in tensors for part in parts_of(tensor))


def version_tuple(text: str) -> tuple:
    """(2, 13) of "2.13.0+cpu"."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def sdpa_restricted_to(backends: list | None) -> object:
    """A context in which scaled dot-product attention may use only these kernels: flash, efficient, math, cudnn.

    None or an empty list restricts nothing. A fresh context each time: older ones cannot be entered twice.
    """
    import contextlib

    import torch

    if not backends:
        return contextlib.nullcontext()
    if version_tuple(torch.__version__) >= (2, 3):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        names = {
            "flash": "FLASH_ATTENTION",
            "efficient": "EFFICIENT_ATTENTION",
            "math": "MATH",
            "cudnn": "CUDNN_ATTENTION",
        }
        return sdpa_kernel([getattr(SDPBackend, names[backend]) for backend in backends])
    return torch.backends.cuda.sdp_kernel(
        enable_flash="flash" in backends, enable_math="math" in backends, enable_mem_efficient="efficient" in backends
    )


def check_dtype(dtype: str, device: str) -> None:
    """Raise UnsupportedError where this torch or this device cannot multiply matrices in `dtype`."""
    import torch
    from kasoku_failure import UnsupportedError

    if device == "cuda" and dtype == "bfloat16" and torch.cuda.get_device_capability() < (8, 0):
        raise UnsupportedError("%s only emulates bfloat16; use --dtype float16." % torch.cuda.get_device_name())
    kind = getattr(torch, dtype)
    try:
        square = torch.ones((2, 2), dtype=kind, device=device)
        torch.nn.functional.softmax(torch.nn.functional.linear(square, square, square[0]), dim=-1)
    except RuntimeError as error:
        if "not implemented for" not in str(error):
            raise
        raise UnsupportedError(
            "torch %s cannot compute in %s on %s; use another --dtype."
            % (torch.__version__, dtype, "the CPU" if device == "cpu" else "this GPU")
        ) from error


def compile_counts() -> dict:
    """What Dynamo has done in this process so far: frames tried, frames compiled, graphs, graph breaks.

    All 0 if Dynamo was never imported; None if this torch keeps no such counters.
    """
    names = ("frames_tried", "frames_compiled", "graphs", "graph_breaks")
    module = sys.modules.get("torch._dynamo.utils")
    if module is None:
        return dict.fromkeys(names, 0)
    counters = getattr(module, "counters", None)
    if counters is None:
        return dict.fromkeys(names)
    frames = counters.get("frames", {})
    return {
        "frames_tried": frames.get("total", 0),
        "frames_compiled": frames.get("ok", 0),
        "graphs": counters.get("stats", {}).get("unique_graphs", 0),
        "graph_breaks": sum(counters.get("graph_break", {}).values()),
    }


def compile_seconds() -> float | None:
    """What Dynamo and the compilers behind it have taken in this process so far; None if this torch does not say."""
    module = sys.modules.get("torch._dynamo.utils")
    if module is None:
        return 0.0
    try:
        return float(module.calculate_time_spent().get("entire_frame_compile", 0.0))
    except (AttributeError, TypeError, ValueError):
        return None


def compile_facts(before_timed: dict, after_timed: dict) -> dict:
    """compiled_frames, graphs, graph_breaks up to the end of the timed part, and recompiles_timed within it."""
    tried = (before_timed["frames_tried"], after_timed["frames_tried"])
    return {
        "compiled_frames": after_timed["frames_compiled"],
        "graphs": after_timed["graphs"],
        "graph_breaks": after_timed["graph_breaks"],
        "recompiles_timed": None if None in tried else tried[1] - tried[0],
    }


def tuned_kernels() -> int | None:
    """How often the compiler has chosen among kernels by timing them, in this process or in the one that filled its
    cache; None if this torch keeps no such count.
    """
    module = sys.modules.get("torch._dynamo.utils")
    counters = getattr(module, "counters", None)
    if module is not None and counters is None:
        return None
    return counters["inductor"].get("select_algorithm_autotune", 0) if counters else 0


def profiled(work: object, all_threads: bool = False) -> dict:
    """Do `work()` under torch's profiler; {name of op or kernel: calls}. Of the CPU it sees this thread's ops alone,
    unless told otherwise.
    """
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    more = {}
    if all_threads:
        from torch._C._profiler import _ExperimentalConfig

        more["experimental_config"] = _ExperimentalConfig(profile_all_threads=True)
    with torch.profiler.profile(activities=activities, **more) as profile:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return {row.key: row.count for row in profile.key_averages()}


def profile_facts(calls: dict, on_cuda: bool) -> dict:
    """attention_ops and their calls, compiled_regions run, CUDA graphs launched, and how the next token was chosen."""
    attention = {name: count for name, count in calls.items() if FUSED_ATTENTION.search(name)}
    if not attention:
        attention = {name: count for name, count in calls.items() if PLAIN_ATTENTION.search(name)}
    regions = sum(count for name, count in calls.items() if name.startswith(COMPILED_REGION))
    graphs = sum(count for name, count in calls.items() if name.startswith(COMPILED_GRAPH))
    return {
        "attention_ops": sorted(attention),
        "attention_op_calls": dict(sorted(attention.items())),
        "compiled_regions_run": regions or graphs,
        "cuda_graphs": sum(count for name, count in calls.items() if GRAPH_LAUNCH.search(name)) if on_cuda else None,
        "token_choice": "sampled" if "aten::multinomial" in calls else "greedy" if "aten::argmax" in calls else None,
    }


def collective_facts(calls: dict, processes: int) -> dict:
    """Of an engine split over several processes: `collectives`, the calls of ops and kernels with which they put their
    parts together, and `collective_ops`, their names. Nothing of one that is not split.
    """
    if processes < 2:
        return {}
    seen = {name: count for name, count in calls.items() if COLLECTIVE.search(name)}
    return {"collectives": sum(seen.values()), "collective_ops": sorted(seen)}


def verify_gpus(expected: list) -> dict:
    """Check that CUDA shows exactly the session's GPUs, by UUID.

    Returns {"gpu_uuids": [...]} or, if this torch does not report them, None with the reason. Raises UnsupportedError.
    """
    import torch
    from kasoku_failure import UnsupportedError

    if not torch.cuda.is_available():
        raise UnsupportedError("The session has a GPU, but torch %s sees none." % torch.__version__)
    count = torch.cuda.device_count()
    seen = [getattr(torch.cuda.get_device_properties(index), "uuid", None) for index in range(count)]
    if None in seen:
        return {"gpu_uuids": None, "gpu_uuids_reason": "torch %s does not report a GPU's UUID." % torch.__version__}
    plain = [str(uuid).replace("GPU-", "").lower() for uuid in seen]
    wanted = [str(uuid).replace("GPU-", "").lower() for uuid in expected]
    if wanted and plain != wanted:
        raise UnsupportedError(
            "The session has the GPUs %s, but CUDA shows %s." % (", ".join(wanted), ", ".join(plain) or "none")
        )
    return {"gpu_uuids": ["GPU-" + uuid for uuid in plain]}


def cuda_peaks() -> dict:
    """peak_allocated_bytes and peak_reserved_bytes of torch's allocator: all visible GPUs, the whole process."""
    import torch

    devices = range(torch.cuda.device_count())
    return {
        "peak_allocated_bytes": sum(torch.cuda.max_memory_allocated(index) for index in devices),
        "peak_reserved_bytes": sum(torch.cuda.max_memory_reserved(index) for index in devices),
    }


def peak_columns(peaks: dict | None) -> dict:
    """`cuda_peaks()` as columns of the memory, with `missing`; None where there is no GPU."""
    if peaks is not None:
        return {**peaks, "missing": {}}
    return {**dict.fromkeys(PEAKS), "missing": dict.fromkeys(PEAKS, NO_PEAK)}

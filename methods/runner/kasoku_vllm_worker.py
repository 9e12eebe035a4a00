"""What Kasoku asks of vLLM's workers: they hold the model in processes of their own, where the runner sees nothing.

vLLM mixes `WorkerFacts` into its worker class when told so (kasoku_vllm_extension), and its methods are then called by
name over vLLM's own RPC. What they return travels as builtins.
"""

from __future__ import annotations

import os
from pathlib import Path

import kasoku_children
from kasoku_vllm_forcing import ForcedIds

STARTED_PROFILE = "_kasoku_profile"
UNREAD = "_kasoku_unread"


class WorkerFacts(ForcedIds):
    """Mixed into a worker: `self.vllm_config` and `self.model_runner` are its own."""

    def kasoku_loaded(self) -> dict:
        """What was loaded and how it was configured."""
        import kasoku_tensor_parts
        import kasoku_torch_facts
        import kasoku_vllm_quantised
        import torch

        model = self.model_runner.get_model()
        kv_caches = getattr(self.model_runner, "kv_caches", None)
        quantised = kasoku_vllm_quantised.layers_held(model)
        held = kasoku_tensor_parts.tensors_of(model) if quantised["quantised_layers"] else model.parameters()
        parameters = list(model.parameters())
        first = parameters[0]
        return {
            "weights_bytes": sum(kasoku_tensor_parts.bytes_of(each) for each in held),
            # vLLM's CPU build moves weights into the memory of its matrix library and leaves nothing behind
            "repacked": bool(quantised["layers_out_of_sight"]) or any(each.numel() == 0 for each in parameters),
            "unread": getattr(model, UNREAD, None),
            "packed": kasoku_torch_facts.still_packed(parameters),
            "kv_reserved_bytes": bytes_of(kv_caches),
            "kv_dtypes": kasoku_vllm_quantised.kv_dtypes(kv_caches),
            "quantised": quantised,
            "token_reads": kasoku_vllm_quantised.token_reads(model, self.vllm_config, kv_caches),
            "dtype": str(first.dtype).replace("torch.", ""),
            "device": str(first.device),
            "gpu_uuid": gpu_uuid(first.device),
            "model_class": type(model).__name__,
            "runner_class": type(self.model_runner).__name__,
            "threads": torch.get_num_threads(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "attention_backends": attention_backends(self.vllm_config),
        }

    def kasoku_compiled(self) -> dict:
        """What has been compiled or captured so far: Dynamo's counters and vLLM's."""
        import dataclasses

        import kasoku_torch_facts

        try:
            from vllm.compilation.counter import compilation_counter
        except ImportError:
            return {"dynamo": kasoku_torch_facts.compile_counts(), "vllm": None}
        return {
            "dynamo": kasoku_torch_facts.compile_counts(),
            "vllm": dataclasses.asdict(compilation_counter),
        }

    def kasoku_peaks(self) -> dict:
        """The peaks of torch's allocator in this worker; None on a CPU, which has none."""
        import torch

        if not torch.cuda.is_available():
            return {"peak_allocated_bytes": None, "peak_reserved_bytes": None}
        return {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        }

    def kasoku_profile_begins(self) -> None:
        """Profile this worker's ops and kernels from now on."""
        import torch

        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        profile = torch.profiler.profile(activities=activities)
        profile.start()
        setattr(self, STARTED_PROFILE, profile)

    def kasoku_profile_ends(self) -> dict:
        """{name of op or kernel: calls} since `kasoku_profile_begins`."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        profile = getattr(self, STARTED_PROFILE)
        delattr(self, STARTED_PROFILE)
        profile.stop()
        return {row.key: row.count for row in profile.key_averages()}


def weights_facts(workers: list, quantisation: str | None) -> dict:
    """What became of the weights, from what the workers say of theirs."""
    unread = sorted({name for worker in workers for name in worker["unread"] or ()})
    facts = {"unread_weights": {"tensors": len(unread), "such_as": unread[0]} if unread else None}
    if quantisation is not None:
        packed = any(worker["packed"] or worker["quantised"]["quantised_layers"] for worker in workers)
        facts["quantisation"] = {"method": quantisation, "dequantised": not packed}
    return facts


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


def attention_backends(vllm_config: object) -> list:
    """The names of the attention backends that the layers resolved to."""
    names = set()
    for layer in vllm_config.compilation_config.static_forward_context.values():
        backend = getattr(layer, "attn_backend", None)
        if backend is not None:
            names.add(backend.get_name())
    return sorted(names)


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

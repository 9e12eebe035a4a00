"""What Kasoku asks of vLLM's workers: they hold the model in processes of their own, where the runner sees nothing.

vLLM mixes `WorkerFacts` into its worker class when told so (kasoku_vllm_extension), and its methods are then called by
name over vLLM's own RPC. What they return travels as builtins.
"""

from __future__ import annotations

import os

import kasoku_worker_facts
from kasoku_vllm_forcing import ForcedIds
from kasoku_vllm_speculation import DraftCounts

STARTED_PROFILE = "_kasoku_profile"
UNREAD = "_kasoku_unread"


class WorkerFacts(ForcedIds, DraftCounts):
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
            "weights_bytes": sum(kasoku_tensor_parts.bytes_of(each) for each in [*held, *self.kasoku_draft_weights()]),
            # vLLM's CPU build moves weights into the memory of its matrix library and leaves nothing behind
            "repacked": bool(quantised["layers_out_of_sight"]) or any(each.numel() == 0 for each in parameters),
            "unread": getattr(model, UNREAD, None),
            "packed": kasoku_torch_facts.still_packed(parameters),
            "kv_reserved_bytes": kasoku_worker_facts.bytes_of(kv_caches),
            "kv_dtypes": kasoku_vllm_quantised.kv_dtypes(kv_caches),
            "quantised": quantised,
            "token_reads": kasoku_vllm_quantised.token_reads(model, self.vllm_config, kv_caches),
            "dtype": str(first.dtype).replace("torch.", ""),
            "device": str(first.device),
            "gpu_uuid": kasoku_worker_facts.gpu_uuid(first.device),
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
        return kasoku_worker_facts.allocator_peaks()

    def kasoku_profile_begins(self) -> None:
        """Profile this worker's ops and kernels from now on."""
        setattr(self, STARTED_PROFILE, kasoku_worker_facts.begun_profile())

    def kasoku_profile_ends(self) -> dict:
        """{name of op or kernel: calls} since `kasoku_profile_begins`."""
        profile = getattr(self, STARTED_PROFILE)
        delattr(self, STARTED_PROFILE)
        return kasoku_worker_facts.calls_of(profile)


def weights_facts(workers: list, quantisation: str | None) -> dict:
    """What became of the weights, from what the workers say of theirs."""
    unread = sorted({name for worker in workers for name in worker["unread"] or ()})
    facts = {"unread_weights": {"tensors": len(unread), "such_as": unread[0]} if unread else None}
    if quantisation is not None:
        packed = any(worker["packed"] or worker["quantised"]["quantised_layers"] for worker in workers)
        facts["quantisation"] = {"method": quantisation, "dequantised": not packed}
    return facts


def attention_backends(vllm_config: object) -> list:
    """The names of the attention backends that the layers resolved to."""
    names = set()
    for layer in vllm_config.compilation_config.static_forward_context.values():
        backend = getattr(layer, "attn_backend", None)
        if backend is not None:
            names.add(backend.get_name())
    return sorted(names)

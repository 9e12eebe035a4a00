"""What a split engine's profiled step shows of how its parts were put together."""

from __future__ import annotations

import pytest

from methods.catalogue.evidence import judge
from tests.methods.runner_module import runner_module

facts = runner_module("kasoku_torch_facts").collective_facts
OTHERS = {"aten::mm": 9, "flash_fwd_splitkv_kernel": 4, "cudaGraphLaunch": 3, "reduce_kernel": 2, "aten::all": 1}


@pytest.mark.parametrize(
    "name",
    [
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>(vllm::RankData*, vllm::RankSignals)",
        "void multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*, unsigned long)",
        "void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<2>()",
        "vllm::all_reduce",
        "c10d::allreduce_",
        "_C::shm_allreduce",
    ],
)
def test_ops_and_kernels_that_put_parts_together_are_counted_and_named(name: str) -> None:
    found = facts({**OTHERS, name: 64}, 2)
    assert found == {"collectives": 64, "collective_ops": [name]}
    judged = judge({"collectives_min": 1}, found)
    assert (judged.in_effect, judged.reason) == (True, "64 collective operations were run in the profiled step.")


def test_a_split_engine_without_any_was_not_split() -> None:
    judged = judge({"collectives_min": 1}, facts(OTHERS, 2))
    assert (judged.in_effect, judged.reason) == (False, "0 collective operations were run in the profiled step.")


def test_of_an_engine_in_one_process_nothing_is_said() -> None:
    assert facts({**OTHERS, "c10d::allreduce_": 1}, 1) == {}

"""What is read of llama.cpp's log and system line, and how the evidence of a GPU is judged; no library is loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import methods
from methods.catalogue.catalogue import load_catalogue
from methods.catalogue.evidence import judge

LOG = """
llama_model_loader: - type  f32:   33 tensors
llama_model_loader: - type q4_K:   96 tensors
llama_model_loader: - type q6_K:   17 tensors
load_tensors: offloading 16 repeating layers to GPU
load_tensors: offloaded 17/17 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    78.75 MiB
load_tensors:        CUDA0 model buffer size =   599.50 MiB
llama_kv_cache:      CUDA0 KV buffer size =    32.00 MiB
sched_reserve:      CUDA0 compute buffer size =   104.01 MiB
sched_reserve:  CUDA_Host compute buffer size =     8.01 MiB
"""
ON_GPU = {
    "device": "cuda",
    "attention_ops": ["FLASH_ATTN_EXT"],
    "weight_types": ["q8_0", "q6_K"],
    "unexpected_weights": 0,
    "layers_not_offloaded": 0,
    "cached_prompt_tokens": 0,
}


@pytest.fixture(scope="module")
def library() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(Path(methods.__file__).parent / "runner")
        before = set(sys.modules)
        yield importlib.import_module("kasoku_llamacpp_library")
        for name in set(sys.modules) - before:
            del sys.modules[name]


def test_the_gpus_that_have_a_part_are_those_with_layers_weights_or_cache(library: ModuleType) -> None:
    by_layers = LOG.replace("CUDA0 KV", "CUDA1 KV")
    by_rows = by_layers.replace("CUDA0 model", "CUDA_Split model").replace("CUDA0 compute", "CUDA3 compute")
    assert library.gpus_with_parts(LOG) == ["CUDA0"]
    assert library.gpus_with_parts(by_layers) == ["CUDA0", "CUDA1"]
    assert library.gpus_with_parts(by_rows) == ["CUDA1"]
    assert library.gpus_with_parts("") == []


def test_buffers_layers_and_tensor_types_are_read_from_its_log(library: ModuleType) -> None:
    mib = 1 << 20
    assert library.buffers(LOG, "model") == {"CPU_Mapped": round(78.75 * mib), "CUDA0": round(599.5 * mib)}
    assert library.buffers(LOG, "KV") == {"CUDA0": 32 * mib}
    assert library.buffers(LOG, "compute") == {"CUDA0": round(104.01 * mib), "CUDA_Host": round(8.01 * mib)}
    assert library.offloaded(LOG) == (17, 17)
    assert library.offloaded("nothing of the kind") == (0, None)
    assert library.tensor_types(LOG) == {"f32": 33, "q4_K": 96, "q6_K": 17}
    assert library.plain_type(library.tensor_types(LOG)) is None
    assert library.plain_type({"bf16": 211, "f32": 61}) == "bfloat16"
    assert library.plain_type({}) is None


def test_what_it_was_built_with_is_read_by_backend(library: ModuleType) -> None:
    said = b"CUDA : ARCHS = 900 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | REPACK = 1 | "
    built = SimpleNamespace(llama_print_system_info=lambda: said)

    assert library.system_facts(built) == {"CUDA": ["ARCHS 900", "USE_GRAPHS"], "CPU": ["SSE3", "AVX2", "REPACK"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"layers_not_offloaded": 17}, "17 layers were left off the GPU"),
        ({"layers_not_offloaded": 1}, "1 layer was left off the GPU"),
        ({"weight_types": ["bf16", "q8_0"]}, "Most weights were bf16, not q8_0"),
        ({"weight_types": []}, "No weights were multiplied, and they were to be q8_0"),
        ({"attention_ops": ["SOFT_MAX"]}, "No FLASH_ATTN_EXT ran"),
    ],
)
def test_what_runs_elsewhere_or_in_another_type_is_not_in_effect(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    must_show = load_catalogue(tmp_path).methods["llamacpp-q8"].must_show
    judgement = judge(must_show, {**ON_GPU, **change})

    assert judgement.in_effect is not bool(said)
    assert said in judgement.reason


def test_a_cpu_needs_no_layers_on_a_gpu(tmp_path: Path) -> None:
    must_show = load_catalogue(tmp_path).methods["llamacpp"].must_show
    assert judge(must_show, {**ON_GPU, "device": "cpu", "layers_not_offloaded": None}).in_effect is True
    assert judge(must_show, {**ON_GPU, "unexpected_weights": 211}).in_effect is False

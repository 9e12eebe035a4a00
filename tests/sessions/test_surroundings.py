"""What changes speed leaves a trace: kept with a session, compared with others, flagged where a resume has others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from probes.host.surroundings import Surroundings, Variable
from probes.machine import Machine
from sessions.device.differences import Place, differences
from sessions.device.speed_variables import is_kept, speed_variables
from sessions.disk.records import BlockEnded
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, records_of, runs_of

HERE = Machine(cpu_model="CPU A", cores_logical=8, cores_physical=4, governor="performance", numa_nodes=1)
AROUND = Surroundings(
    variables=(Variable(name="OMP_PROC_BIND", value="true"),),
    cpu_flags=("avx2", "fpu"),
    smt=True,
    turbo=True,
    transparent_huge_pages="madvise",
    numa_policy="default",
    memory_nodes="0",
    runner_cpus="0-2",
)


def said(machine: Machine, around: Surroundings) -> list[tuple[str, dict[str, object]]]:
    places = {"one": Place(HERE, AROUND, frozenset({"torch"})), "two": Place(machine, around, frozenset({"torch"}))}
    return list(differences(places))


@pytest.mark.parametrize(
    ("changed", "name", "one", "two"),
    [
        ({"cpu_model": "CPU B"}, "CPU", "CPU A", "CPU B"),
        ({"cores_physical": 2}, "physical cores", 4, 2),
        ({"numa_nodes": 2}, "NUMA nodes", 1, 2),
        ({"governor": "powersave"}, "CPU frequency governor", "performance", "powersave"),
        ({"cgroup_cpus": 0.5}, "CPU quota", "none", 0.5),
        ({"cgroup_memory_bytes": 10**9}, "memory limit", "none", 10**9),
    ],
)
def test_machines_that_differ_in_one_are_said_to(
    changed: dict[str, object], name: str, one: object, two: object
) -> None:
    assert said(replace(HERE, **changed), AROUND) == [(name, {"one": one, "two": two})]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "name", "one", "two"),
    [
        ({"smt": False}, "SMT", True, False),
        ({"turbo": False}, "turbo", True, False),
        ({"transparent_huge_pages": "never"}, "transparent huge pages", "madvise", "never"),
        ({"numa_policy": "bind:0"}, "NUMA policy", "default", "bind:0"),
        ({"memory_nodes": "0-1"}, "memory nodes", "0", "0-1"),
        ({"runner_cpus": "1"}, "CPUs of the runner", "0-2", "1"),
        ({"cpu_flags": ("avx512f", "fpu")}, "CPU flags", "avx2", "avx512f"),
        ({"cpu_flags": ("fpu",)}, "CPU flags", "avx2", "none of these"),
        ({"variables": ()}, "OMP_PROC_BIND", "true", "not set"),
        ({"variables": (Variable(name="OMP_PROC_BIND", value="close"),)}, "OMP_PROC_BIND", "true", "close"),
        (
            {"variables": (*(AROUND.variables or ()), Variable(name="LD_PRELOAD", value="/x.so", environment="torch"))},
            "LD_PRELOAD of the environment torch",
            "not set",
            "/x.so",
        ),
    ],
)
def test_surroundings_that_differ_in_one_are_said_to(
    changed: dict[str, object], name: str, one: object, two: object
) -> None:
    assert said(HERE, replace(AROUND, **changed)) == [(name, {"one": one, "two": two})]  # type: ignore[arg-type]


def test_what_an_older_session_does_not_tell_is_no_difference() -> None:
    assert said(Machine(), Surroundings()) == []
    assert said(replace(HERE, missing={"cgroup_cpus": "not read"}), Surroundings()) == []


def test_an_environment_that_a_session_did_not_use_is_no_difference() -> None:
    other = replace(
        AROUND, variables=(*(AROUND.variables or ()), Variable(name="VLLM_X", value="1", environment="vllm"))
    )
    places = {
        "one": Place(HERE, AROUND, frozenset({"torch"})),
        "two": Place(HERE, other, frozenset({"torch", "vllm"})),
    }
    assert list(differences(places)) == []


@pytest.mark.parametrize(
    "name",
    [
        "OMP_PROC_BIND", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE",
        "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG",
        "NVIDIA_TF32_OVERRIDE", "NCCL_P2P_DISABLE", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_COMPILE_DISABLE",
        "TORCHINDUCTOR_MAX_AUTOTUNE", "TRITON_INTERPRET", "VLLM_ATTENTION_BACKEND", "TOKENIZERS_PARALLELISM",
        "MALLOC_ARENA_MAX", "LD_PRELOAD", "GLIBC_TUNABLES",
    ],
)  # fmt: skip
def test_what_steers_libraries_is_kept(name: str) -> None:
    assert is_kept(name)


@pytest.mark.parametrize(
    "name", ["HOME", "USER", "PATH", "HF_TOKEN", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "CCACHE"]
)
def test_nothing_else_is(name: str) -> None:
    assert not is_kept(name)


def test_secrets_and_what_kasoku_sets_itself_are_left_out() -> None:
    inherited = {"VLLM_API_KEY": "x", "OMP_NUM_THREADS": "3", "MKL_DYNAMIC": "FALSE", "NCCL_NET": "https://u:p@host/"}
    environment = Interpreter("torch", Path("/p"), (), {"OMP_NUM_THREADS": "1", "OTHER": "1"}, "managed", {})
    found = list(speed_variables(inherited, [environment], {"OMP_NUM_THREADS"}))

    assert found == [
        Variable(name="MKL_DYNAMIC", value="FALSE"),
        Variable(name="OMP_NUM_THREADS", value="1", environment="torch"),
    ]
    assert [str(each) for each in found] == ["MKL_DYNAMIC=FALSE", "OMP_NUM_THREADS=1 (environment torch)"]


def test_a_variable_is_kept_shown_compared_and_flagged_on_a_resume(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, slow = work.method("quick"), work.method("slow", rate=20.0)
    monkeypatch.setenv("VLLM_API_KEY", "not-to-be-kept")
    monkeypatch.setenv("OMP_DYNAMIC", "true")
    one = work.run(quick)
    kept = json.loads((one.path / "session.json").read_text())["surroundings"]
    assert {"name": "OMP_DYNAMIC", "value": "true", "environment": ""} in kept["variables"]
    assert "OMP_DYNAMIC=true" in work.command("show", one.id).out
    assert not [file for file in one.path.rglob("*") if file.is_file() and b"not-to-be-kept" in file.read_bytes()]

    folder = work.launch(slow, blocks=2, requests=2, max_new_tokens=40)
    until(lambda: [record for record in records_of(folder) if isinstance(record, BlockEnded)], "one block is measured")
    folder.ask("stop")
    work.finished(folder)
    monkeypatch.delenv("OMP_DYNAMIC")
    two = work.run(quick)
    assert f"differs in OMP_DYNAMIC: {one.id}: true, {two.id}: not set" in work.command("compare", one.id, two.id).out
    work.resume(folder)
    flags = [
        [flag for flag in run["flags"] if "OMP_DYNAMIC" in flag] for run in runs_of(folder) if run["status"] == "ok"
    ]
    assert flags == [[], ["resumed in other surroundings: OMP_DYNAMIC was true, is not set"]]

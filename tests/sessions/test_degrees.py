"""`--tensor-parallel`: each degree is a method of its own, on as many of the session's GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from methods.catalogue.catalogue import load_catalogue
from methods.catalogue.method import SERVER
from methods.models.config import too_few_layers, undivided
from probes.gpu.nvml import Nvml
from sessions.device.devices import DeviceError, choose
from sessions.disk.plan import PIPELINE, TENSOR, Plan, PlannedMethod
from sessions.export.command import command_of
from sessions.planning.degrees import at_degrees, degrees_of
from sessions.planning.wanted import PlanError
from sessions.run.block_run import job_of
from sessions.run.energy_reading import energy_at
from sessions.run.runner_variables import device_variables, inherited_variables
from sessions.run.steering import SKIP
from tests.made_model import made_prepared
from tests.probes.fake_nvml import FakeNvml

UUIDS = [FakeNvml().uuid(number) for number in range(4)]
ALONE = PlannedMethod(name="alone", engine="transformers", environment="x")
SPLIT = PlannedMethod(
    name="vllm", engine="vllm", environment="x", reference="alone", differs="the engine", tensor_parallel=True
)
DRAFT = replace(SPLIT, name="draft", reference="vllm")


def planned(*methods: PlannedMethod, gpus: int = 4) -> Plan:
    return Plan(
        methods=list(methods),
        device=",".join(map(str, range(gpus))),
        gpu_uuids=UUIDS[:gpus],
        gpu_visible=UUIDS[:gpus],
        gpu_sources=[f"gpu{number}" for number in range(gpus)],
    )


def told(methods: list[PlannedMethod]) -> dict[str, tuple[int | None, str | None, str]]:
    return {each.name: (each.degree, each.reference, each.lacking.get("reason", "")) for each in methods}


def test_each_degree_is_compared_with_the_least_and_that_with_the_methods_own_reference() -> None:
    made = at_degrees([ALONE, SPLIT, DRAFT], [1, 2, 4], gpus=4)
    one = "Its engine runs on one GPU: it cannot be split over {}."
    assert told(made) == {
        "alone@tp1": (1, None, ""),
        "alone@tp2": (2, "alone@tp1", one.format(2)),
        "alone@tp4": (4, "alone@tp1", one.format(4)),
        "vllm@tp1": (1, "alone@tp1", ""),
        "vllm@tp2": (2, "vllm@tp1", ""),
        "vllm@tp4": (4, "vllm@tp1", ""),
        "draft@tp1": (1, "vllm@tp1", ""),
        "draft@tp2": (2, "draft@tp1", ""),
        "draft@tp4": (4, "draft@tp1", ""),
    }
    assert [each.differs for each in made[3:5]] == [
        "the engine",
        "Its weights and its work are split over 2 GPUs instead of 1.",
    ]


def test_a_pipelines_degrees_are_methods_too_and_what_is_none_says_so() -> None:
    laid = replace(SPLIT, pipeline_parallel=True)
    made = at_degrees([ALONE, laid, replace(SPLIT, name="sglang")], [1, 2], gpus=2, way=PIPELINE)
    assert told(made) == {
        "alone@pp1": (1, None, ""),
        "alone@pp2": (2, "alone@pp1", "Its engine runs on one GPU: it cannot be split over 2."),
        "vllm@pp1": (1, "alone@pp1", ""),
        "vllm@pp2": (2, "vllm@pp1", ""),
        "sglang@pp1": (1, "alone@pp1", ""),
        "sglang@pp2": (
            2, "sglang@pp1", "It is not measured as a pipeline over 2 GPUs: --tensor-parallel splits it.",
        ),
    }  # fmt: skip
    assert made[3].differs == "Its layers are on 2 GPUs, one after another, instead of 1."
    assert {each.split for each in made} == {PIPELINE}
    assert [each.row for each in made] == ["alone", "alone", "vllm", "vllm", "sglang", "sglang"]
    plan = planned(*made, gpus=2)
    job = job_of(plan, plan.method("vllm@pp2"), plan.order()[0], made_prepared(*(each.name for each in made)))
    assert job["split"] == "pipeline_parallel"


def test_one_process_with_all_its_gpus_must_show_that_each_has_a_part() -> None:
    rows = replace(ALONE, name="llamacpp", engine="llamacpp", tensor_parallel=True, pipeline_parallel=True)
    for way in (TENSOR, PIPELINE):
        one, two = at_degrees([rows], [1, 2], gpus=2, way=way)
        assert "gpus_min" not in one.must_show
        assert two.must_show["gpus_min"] == 2
        assert "collectives_min" not in two.must_show


def test_the_two_ways_to_split_exclude_each_other() -> None:
    assert degrees_of({"tensor_parallel": "1,2,2"}) == (TENSOR, [1, 2])
    assert degrees_of({"pipeline_parallel": "4"}) == (PIPELINE, [4])
    assert degrees_of({"pipeline_parallel": "x"}) == (PIPELINE, [])
    assert degrees_of({}) == (TENSOR, [])
    with pytest.raises(PlanError, match="--tensor-parallel and --pipeline-parallel exclude each other"):
        degrees_of({"tensor_parallel": "2", "pipeline_parallel": "2"})


def test_a_pipeline_is_no_longer_than_the_model_has_layers() -> None:
    assert too_few_layers({"num_hidden_layers": 4}, 4) == too_few_layers({}, 4) == ""
    assert too_few_layers({"n_layer": 3}, 4) == "it has 3 layers, fewer than 4 GPUs"


def test_a_reference_that_is_not_in_the_plan_keeps_its_name() -> None:
    assert told(at_degrees([SPLIT], [4, 2], gpus=4)) == {
        "vllm@tp4": (4, "vllm@tp2", ""),
        "vllm@tp2": (2, "alone", ""),
    }


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        (0, "It cannot be split over 2 GPUs: this session runs on the CPU."),
        (1, "It cannot be split over 2 GPUs: this session has 1, and --device names more."),
    ],
)
def test_more_than_the_sessions_gpus_is_a_row_with_a_sentence(gpus: int, reason: str) -> None:
    assert told(at_degrees([SPLIT], [1, 2], gpus))["vllm@tp2"] == (2, "vllm@tp1", reason)


def test_what_the_device_lacks_already_is_what_is_said() -> None:
    lacking = {"reason": "It runs on an NVIDIA GPU only.", "remedy": ""}
    assert {each.lacking["reason"] for each in at_degrees([replace(SPLIT, lacking=lacking)], [1, 2], 0)} == {
        lacking["reason"]
    }


def test_a_split_engine_must_show_that_its_parts_were_put_together() -> None:
    server = replace(SPLIT, name="served", engine=SERVER)
    made = at_degrees([SPLIT, server], [1, 2], gpus=2)
    assert [each.must_show.get("collectives_min") for each in made] == [None, 1, None, None]


def test_a_block_gets_the_first_gpus_and_their_energy() -> None:
    plan = planned(*at_degrees([SPLIT], [1, 2, 4], gpus=4), ALONE)
    prepared = made_prepared(*(method.name for method in plan.methods))
    nvml = Nvml(FakeNvml(4))
    assert len(nvml.gpus) == 4
    for method, gpus in (("vllm@tp1", 1), ("vllm@tp2", 2), ("vllm@tp4", 4), ("alone", 4)):
        block = next(row for row in plan.order() if row.method == method)
        assert job_of(plan, plan.method(method), block, prepared)["gpu_uuids"] == UUIDS[:gpus]
        assert device_variables(plan, plan.gpus_of(method, 0))["CUDA_VISIBLE_DEVICES"] == ",".join(UUIDS[:gpus])
        nvml.library.calls.clear()
        assert energy_at(block, "start", nvml, plan).energy_j
        asked = [index for name, index in nvml.library.calls if name == "nvmlDeviceGetTotalEnergyConsumption"]
        assert asked == list(range(gpus))


def test_the_hosts_own_settings_of_nccl_reach_the_runners() -> None:
    own = {"NCCL_P2P_DISABLE": "1", "NCCL_SOCKET_IFNAME": "eth0", "KASOKU_HOME": "/x"}
    assert inherited_variables(own) == {"NCCL_P2P_DISABLE": "1", "NCCL_SOCKET_IFNAME": "eth0"}


def test_the_plans_command_names_the_row_once_and_its_degrees() -> None:
    plan = planned(*(replace(each, named=True) for each in at_degrees([SPLIT], [1, 2], gpus=2)), gpus=2)
    said = command_of(replace(plan, tensor_parallel="1,2"))
    assert said.count("--method vllm ") == said.count("vllm") == 1
    assert "--tensor-parallel 1,2" in said


def test_its_name_can_be_kept_and_skipped() -> None:
    (split,) = at_degrees([SPLIT], [2], gpus=2)
    assert msgspec.json.decode(msgspec.json.encode(split), type=PlannedMethod) == split
    found = SKIP.fullmatch("skip-vllm@tp2-3")
    assert found is not None
    assert (found["method"], found["block"]) == ("vllm@tp2", "3")


@pytest.mark.parametrize(
    ("config", "degree", "reason"),
    [
        ({"num_attention_heads": 32, "num_key_value_heads": 8}, 4, ""),
        ({"num_attention_heads": 32, "num_key_value_heads": 4}, 8, ""),  # two GPUs have the same one
        ({"text_config": {"num_attention_heads": 16}}, 2, ""),
        ({}, 2, ""),
        ({"num_attention_heads": 9}, 2, "its 9 attention heads cannot be shared out evenly among 2 GPUs"),
        (
            {"num_attention_heads": 24, "num_key_value_heads": 3},
            2,
            "its 3 heads of keys and values cannot be shared out evenly among 2 GPUs",
        ),
    ],
)
def test_heads_are_shared_out_whole(config: dict[str, Any], degree: int, reason: str) -> None:
    assert undivided(config, degree) == reason


def test_of_the_gpus_that_nobody_named_the_idlest_are_taken() -> None:
    nvml = Nvml(FakeNvml(4))
    assert choose(None, nvml, 2).uuids == tuple(UUIDS[:2])
    assert choose(None, nvml, 9).spec == "0,1,2,3"
    assert choose(None, nvml).uuids == tuple(UUIDS[:1])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("0,0", "--device 0,0 names GPU 0 twice: name each once."),
        ("0,7", "--device 0,7 does not match the GPUs here (0, 1, 2, 3)."),
    ],
)
def test_gpus_that_cannot_be_meant_are_refused(asked: str, sentence: str) -> None:
    with pytest.raises(DeviceError) as refused:
        choose(asked, Nvml(FakeNvml(4)))
    assert str(refused.value) == sentence


def test_the_rows_whose_engines_can_be_split_say_so(tmp_path: Path) -> None:
    methods = load_catalogue(tmp_path).methods.values()
    assert {each.engine for each in methods if each.tensor_parallel} == {"vllm", "sglang", "llamacpp", SERVER}
    assert {each.name for each in methods if each.pipeline_parallel} == {
        "vllm", "llamacpp", "llamacpp-q8", "llamacpp-q4",
    }  # fmt: skip
    by_gpus = {each.name for each in methods if "{gpus}" in str(each.options.get("command"))}
    assert by_gpus == {each.name for each in methods if each.tensor_parallel and each.engine == SERVER}

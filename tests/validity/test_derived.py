from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from methods.base.memory_bandwidth import MemoryBandwidth
from probes.gpu.facts import GpuFacts
from probes.gpu.link import GpuLink
from probes.host.surroundings import Surroundings, Variable
from probes.machine import Machine
from sessions.disk.frame_schema import RUNS, TOKENS
from sessions.disk.plan import PlannedMethod
from sessions.disk.records import MachineSeen, Prepared
from sessions.frames.derived import Context, RunKey, complete, prompt_digest
from sessions.frames.journal_frames import _idle_w
from sessions.frames.metrics import RUN_KEY
from tests.made_model import made_model
from tests.validity.made_frames import PLAN, SECOND, evidence, requests, run, telemetry, tenths

GAPS = {"base": 0.010, "fast": 0.005}


def prepared(folder: Path) -> Prepared:
    (folder / "config.json").write_text('{"tie_word_embeddings": true}')
    return Prepared(
        t=0,
        model=made_model(layers=2, kv_heads=4, head_dim=8, parameters=1000, weights_digest="abc", folder=folder),
        prompts=[[1, 2, 3]],
        prompt_text=None,
        prompt_template=False,
        stop_token_ids=[],
        interpreters={},
        unavailable={},
        bandwidth=MemoryBandwidth(read_bytes_s=4e9, copy_bytes_s=3e9),
    )


def frames() -> dict[str, pl.DataFrame]:
    """Two methods, two blocks each, two requests a block; the second block of `fast` was run twice."""
    runs, asked, tokens = [], [], []
    for method, block, attempt in [
        ("base", 0, 0), ("fast", 0, 0), ("fast", 1, 0), ("base", 1, 0), ("fast", 1, 1),
    ]:  # fmt: skip
        ids = [4, 5, 6] if method == "base" else [4, 5, 7]
        runs.append(
            run(
                method=method,
                block=block,
                attempt=attempt,
                reference=None if method == "base" else "base",
                status="failed" if (method, block, attempt) == ("fast", 1, 0) else "ok",
                weights_bytes=2_000,
                evidence=evidence(greedy={"ids": ids, "margins": [1.0, 2.0, 0.5]}),
            )
        )
        key = {"method": method, "block": block, "attempt": attempt}
        own = requests([64.0, 32.0]).with_columns(*(pl.lit(value).alias(name) for name, value in key.items()))
        asked.append(own)
        for request, start in own.select("request", "start_ns").iter_rows():
            slow = 10 if attempt == 0 and (method, block) == ("fast", 1) else 1  # what failed must not count
            times = [start + int(GAPS[method] * slow * SECOND * step * (1 + step / 100)) for step in range(1, 65)]
            tokens += [
                ("s", method, block, attempt, request, 0, index, t, 100 + index) for index, t in enumerate(times)
            ]
    readings = telemetry(tenths(8, 40), gpu0__power_w=200, gpu0__energy_j=[20 * n for n in range(321)])
    return {
        "runs": pl.DataFrame(runs, schema=RUNS),
        "requests": pl.concat(asked),
        "tokens": pl.DataFrame(tokens, schema=TOKENS, orient="row"),
        "telemetry": readings,
    }


def measured_with(found: Prepared) -> dict[RunKey, Prepared]:
    return dict.fromkeys(frames()["runs"].select(RUN_KEY).iter_rows(), found)


@pytest.fixture
def completed(tmp_path: Path) -> dict[str, pl.DataFrame]:
    machine = MachineSeen(t=0, machine=Machine(cores_logical=2), software={}, gpus=["gpu0"])
    return complete(frames(), Context(PLAN, measured_with(prepared(tmp_path)), machine))


def gaps_of(tokens: pl.DataFrame, **key: Any) -> np.ndarray[Any, Any]:
    own = tokens.filter(*(pl.col(name) == value for name, value in key.items()))
    times = own.sort("block", "attempt", "request", "index")
    parts = times.partition_by("block", "attempt", "request", maintain_order=True)
    return np.concatenate([np.diff(part["t_ns"].to_numpy()) for part in parts]) / 1e9


def test_latency_percentiles_are_those_of_all_gaps(completed: dict[str, pl.DataFrame]) -> None:
    tokens, runs = completed["tokens"], completed["runs"]
    for row in runs.iter_rows(named=True):
        key = {name: row[name] for name in ("method", "block", "attempt")}
        own = gaps_of(tokens, **key)
        assert [row["itl_s_p50"], row["itl_s_p99"]] == pytest.approx(np.percentile(own, [50, 99]))
        kept = tokens if row["method"] == "base" else tokens.filter((pl.col("block") == 0) | (pl.col("attempt") == 1))
        counted = gaps_of(kept, method=row["method"])
        assert [row["method_itl_s_p50"], row["method_itl_s_p99"]] == pytest.approx(np.percentile(counted, [50, 99]))
    first = completed["requests"].row(0, named=True)
    own = gaps_of(tokens, method="base", block=0, request=0)
    assert [first["itl_s_p50"], first["itl_s_p99"]] == pytest.approx(np.percentile(own, [50, 99]))


def test_limit_and_bandwidth_stand_in_the_runs(completed: dict[str, pl.DataFrame]) -> None:
    row = completed["runs"].row(0, named=True)
    assert row["bytes_per_token"] == 2_000 + 2 * 2 * 4 * 8 * 2 * (48 + 64 / 2)
    assert row["bandwidth_bytes_s"] == 4e9
    assert row["weights_digest"] == "abc"
    assert row["prompt_digest"] == prompt_digest([[1, 2, 3]]) != prompt_digest([[1, 2, 4]])


def test_each_blocks_digests_are_of_what_it_was_measured_with(tmp_path: Path) -> None:
    first, other = prepared(tmp_path), msgspec.structs.replace(prepared(tmp_path), prompts=[[9]])
    keys = {**measured_with(first), ("base", 1, 0): other}
    runs = complete(frames(), Context(PLAN, keys, None))["runs"]
    own = pl.col("prompt_digest") == prompt_digest([[9]])
    assert runs.filter(own).select(RUN_KEY).rows() == [("base", 1, 0)]


def test_the_greedy_difference_is_that_to_the_reference(completed: dict[str, pl.DataFrame]) -> None:
    base, fast, *_ = completed["runs"].iter_rows(named=True)
    assert base["first_difference"] is None
    assert json.loads(base["missing"])["first_difference"] == "it is the reference"
    assert (fast["first_difference"], fast["difference_margin"]) == (2, 0.5)
    assert fast["equal_tokens_share"] == pytest.approx(2 / 3)


def test_short_requests_have_no_joules_of_their_own_and_say_why(completed: dict[str, pl.DataFrame]) -> None:
    row = completed["requests"].row(0, named=True)
    assert row["energy_j"] is None
    assert json.loads(row["missing"])["energy_j"] == "it lasted 1.0 s; the energy counter needs 5 s or more"


def test_what_could_not_be_derived_says_why(tmp_path: Path) -> None:
    bare = complete(frames(), Context(PLAN, {}, None))
    missing = json.loads(bare["runs"]["missing"][0])
    assert {"bytes_per_token", "bandwidth_bytes_s", "dram_active_percent", "power_integral_j"} <= set(missing)


def test_dram_activity_is_that_of_intervals_within_the_timed_part(tmp_path: Path) -> None:
    made = frames()
    before, within = telemetry([19.9, 20.3], gpu0__dram_active_percent=90), [20.7, 21.1, 21.5]
    machine = MachineSeen(t=0, machine=Machine(cores_logical=2), software={}, gpus=["gpu0"])

    def found(*counted: pl.DataFrame) -> dict[str, Any]:
        made["telemetry"] = pl.concat([frames()["telemetry"], *counted])
        return complete(made, Context(PLAN, measured_with(prepared(tmp_path)), machine))["runs"].row(0, named=True)

    assert found(before, telemetry(within, gpu0__dram_active_percent=30))["dram_active_percent"] == pytest.approx(30)
    alone = found(before)
    assert alone["dram_active_percent"] is None
    assert "too rarely" in json.loads(alone["missing"])["dram_active_percent"]


@pytest.mark.parametrize(
    ("variable", "peer", "says"),
    [
        (None, True, ""),
        (None, False, "no peer access: between gpu0 and gpu1: the chipset does not support it"),
        ("NCCL_P2P_DISABLE=1", True, "no peer access: NCCL_P2P_DISABLE=1 keeps NCCL from using it"),
        ("NCCL_P2P_DISABLE=0", True, ""),
        ("NCCL_P2P_LEVEL=LOC", True, "no peer access: NCCL_P2P_LEVEL=LOC keeps NCCL from using it"),
    ],
)
def test_a_method_at_a_degree_is_judged_by_its_own_gpus(
    tmp_path: Path, variable: str | None, peer: bool, says: str
) -> None:
    methods = [
        PlannedMethod(name=name, engine="vllm", environment="x", degree=degree)
        for name, degree in (("base", 1), ("fast", 2))
    ]
    link = GpuLink(
        between=("gpu0", "gpu1"),
        kind="PCIe",
        peer_access=peer,
        reason="" if peer else "the chipset does not support it",
    )
    name, _, value = (variable or "").partition("=")
    machine = MachineSeen(
        t=0,
        machine=Machine(cores_logical=2, gpus=(GpuFacts(source="gpu0", links=(link,)),)),
        software={},
        gpus=["gpu0", "gpu1"],
        surroundings=Surroundings(variables=(Variable(name=name, value=value),) if variable else ()),
    )
    both = msgspec.structs.replace(
        prepared(tmp_path), bandwidth=MemoryBandwidth(read_bytes_s=8e9, copy_bytes_s=3e9, devices=2)
    )
    made = frames()
    every = tenths(8, 201)
    made["telemetry"] = telemetry(every, gpu0__power_w=200, gpu1__power_w=100)
    rows = complete(made, Context(replace(PLAN, methods=methods), measured_with(both), machine))["runs"]
    base, fast, *_ = rows.iter_rows(named=True)
    assert [row["power_integral_j"] for row in (base, fast)] == pytest.approx([200 * 190, 300 * 190])
    assert [row["bandwidth_bytes_s"] for row in (base, fast)] == [4e9, 8e9]
    flagged = [[flag for flag in row["flags"] if flag.startswith("no peer")] for row in (base, fast)]
    assert flagged == [[], [says] if says else []]


def test_idle_power_is_that_of_the_gpus_in_use() -> None:
    seen = MachineSeen(t=0, machine=Machine(), software={}, gpus=["gpu0", "gpu1"], idle_w=150.0, idle_each=[70.0, 78.0])
    assert [_idle_w(seen, gpus) for gpus in (["gpu0"], ["gpu1"], ["gpu0", "gpu1"])] == [70.0, 78.0, 150.0]
    assert _idle_w(msgspec.structs.replace(seen, idle_each=[]), ["gpu0"]) is None


def test_deriving_twice_changes_nothing(completed: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    machine = MachineSeen(t=0, machine=Machine(cores_logical=2), software={}, gpus=["gpu0"])
    again = complete(completed, Context(PLAN, measured_with(prepared(tmp_path)), machine))
    assert all(again[name].equals(completed[name]) for name in completed)

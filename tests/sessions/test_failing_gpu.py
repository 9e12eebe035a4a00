"""A GPU whose driver starts to fail, returns rubbish or loses it while it is measured: the session goes on and says so.

The driver is a fake under the conductor, a process as always; the engine is scripted and needs no GPU.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import polars as pl
import pytest

from sessions.disk.records import BlockEnded, BlockPhase, Note, Tokens
from sessions.disk.session_folder import SessionFolder
from sessions.run.launch import launch
from tests.probes.fake_nvml import FakeNvml
from tests.probes.scripted_driver import as_pynvml
from tests.sessions.conftest import opened
from tests.sessions.processes import until
from tests.sessions.soundness import assert_sound
from tests.sessions.workplace import Workplace, assert_nothing_left, records_of, runs_of

UUID = FakeNvml().uuid(0)
FAULTS: dict[str, dict[str, Any]] = {
    "failing": {"fail": {"*": 999}},
    "rubbish": {"give": {"*": "\x1b[31mrubbish"}},
    "impossible": {
        "give": {
            "nvmlDeviceGetTotalEnergyConsumption": -5_000,
            "nvmlDeviceGetClockInfo": 10**30,
            "nvmlDeviceGetCurrentClocksEventReasons": float("nan"),
        }
    },
    "lost": {"fail": {"*": 15}},
}
HANGS: dict[str, Any] = {"hang": {"nvmlDeviceGetUtilizationRates": 3.0}}
SAYS = {
    "failing": "NVML error 999",
    "rubbish": "reading it failed: ",
    "impossible": "the driver returned an impossible value",
    "lost": "the GPU has fallen off the bus: check `sudo dmesg | grep Xid`, then reboot",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="module")
def folder(work: Workplace, tmp_path_factory: pytest.TempPathFactory) -> SessionFolder:
    """A session in which the driver misbehaves in the timed part of each method but one."""
    place = tmp_path_factory.mktemp("driver")
    faults = place / "faults.json"
    names = [work.method(name, rate=100.0) for name in ("steady", *FAULTS, "hangs")]
    plan = work.plan(*names, max_new_tokens=180, token_deadline_s=30.0)
    seeded = (dataclasses.replace(plan, seed=seed) for seed in range(10_000))
    # the edges of a block see what ails its neighbours, so the sound one comes first and the one that hangs last
    plan = next(p for p in seeded if (p.order()[0].method, p.order()[-1].method) == ("steady", "hangs"))
    methods = [dataclasses.replace(method, environment="plain") for method in plan.methods]
    plan = dataclasses.replace(
        plan, methods=methods, device="0", gpu_uuids=[UUID], gpu_visible=[UUID], gpu_sources=["gpu0"]
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(as_pynvml(place / "module", faults)))
        patched.setenv("SCRIPTED_IMPORT_S", "0.5")  # as real packages take, so that memory is read meanwhile
        folder = launch(work.home, plan)
    planned = {**FAULTS, "hangs": HANGS}
    for name in (block.method for block in plan.order()):
        if name in planned:
            until(partial(generates, folder, name), f"{name} generates")
            faults.write_text(json.dumps(planned[name]))
        until(partial(has_ended, folder, name), f"{name} ends")
        faults.unlink(missing_ok=True)
    assert work.finished(folder) == "finished"
    return folder


def generates(folder: SessionFolder, method: str) -> bool:
    """Whether its timed part gives tokens."""
    records = [record for record in records_of(folder) if getattr(record, "method", None) == method]
    timed = any(isinstance(record, BlockPhase) and record.phase == "timed" for record in records)
    return timed and any(isinstance(record, Tokens) for record in records)


def has_ended(folder: SessionFolder, method: str) -> bool:
    return any(isinstance(record, BlockEnded) and record.method == method for record in records_of(folder))


@pytest.fixture(scope="module")
def rows(folder: SessionFolder) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in runs_of(folder)}


def test_every_block_runs_to_its_end(folder: SessionFolder, rows: dict[str, dict[str, Any]]) -> None:
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(("steady", *FAULTS, "hangs"), "ok")
    assert_nothing_left(folder)
    assert_sound(folder)


def test_a_block_with_a_driver_that_answers_has_its_energy_and_no_flag(rows: dict[str, dict[str, Any]]) -> None:
    steady = rows["steady"]
    assert steady["timed_energy_j"] > 0
    assert steady["peak_vram_bytes"] is not None
    assert not [flag for flag in steady["flags"] if "telemetry" in flag.lower()]


@pytest.mark.parametrize("name", FAULTS)
def test_what_the_driver_did_not_tell_is_flagged_with_its_reason(rows: dict[str, dict[str, Any]], name: str) -> None:
    flags = [flag for flag in rows[name]["flags"] if flag.startswith("GPU telemetry gaps: ")]
    assert len(flags) == 1, rows[name]["flags"]
    assert "gpu0 gave no " in flags[0]
    assert SAYS[name] in flags[0]
    assert "\x1b" not in flags[0]


@pytest.mark.parametrize("name", FAULTS)
def test_energy_that_was_not_read_is_missing_with_its_reason(rows: dict[str, dict[str, Any]], name: str) -> None:
    assert rows[name]["timed_energy_j"] is None
    said = json.loads(rows[name]["missing"])["timed_energy_j"]
    assert SAYS[name] in said or "did not answer within" in said  # a machine too busy to read it at that moment


def test_a_driver_that_hangs_is_named_and_what_was_not_sampled_is_flagged(
    folder: SessionFolder, rows: dict[str, dict[str, Any]]
) -> None:
    notes = [record.text for record in records_of(folder) if isinstance(record, Note)]
    assert "Telemetry is stalled: gpus has not answered for over 1 s." in notes
    assert [flag for flag in rows["hangs"]["flags"] if flag.startswith("telemetry gaps: nothing was sampled for ")]


def test_no_rubbish_is_kept_as_a_value(folder: SessionFolder) -> None:
    telemetry = pl.read_parquet(folder.frame("telemetry")).filter(pl.col("source") == "gpu0")
    told = telemetry.filter(pl.col("value").is_not_null())
    assert set(told["status"]) == {"ok"}
    assert told["value"].is_finite().all()
    assert told["value"].min() >= 0  # type: ignore[operator]
    assert set(told.filter(pl.col("metric") == "sm_clock_mhz")["value"]) == {1980.0}
    assert "ok" not in set(telemetry.filter(pl.col("value").is_null())["status"])


def test_the_gpu_comes_back_when_its_driver_does(folder: SessionFolder, rows: dict[str, dict[str, Any]]) -> None:
    """In the block after the one in which it was lost; there is one, for that is not the last."""
    order = [row.method for row in folder.plan().order()]
    for name in order[order.index("lost") + 1 :][:1]:
        telemetry = pl.read_parquet(folder.frame("telemetry")).filter(
            pl.col("source") == "gpu0",
            pl.col("value").is_not_null(),
            pl.col("t_ns").is_between(rows[name]["started_ns"], rows[name]["ended_ns"]),
        )
        assert len(telemetry) > 0, name


def test_show_tells_of_it(work: Workplace, folder: SessionFolder) -> None:
    said = work.command("show", folder.id)
    assert (said.code, said.err) == (0, "")
    flat = " ".join(said.out.split())
    for words in SAYS.values():
        assert words in flat

"""Flaws planted in a real session, conductor, warden and runner included, and found by its flags."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from methods.base.home import private_folder
from sessions.disk.session_folder import SessionFolder, create
from sessions.disk.store import Store
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.comparison_row import ComparisonRow
from tests.probes.fake_nvml import FakeNvml
from tests.sessions.conftest import opened
from tests.sessions.processes import DEADLINE_S
from tests.sessions.workplace import Workplace, runs_of

ROOT = Path(__file__).parents[2]
ENGINE = Path(__file__).with_name("flawed_engine.py")
REFERENCE = "flawless"
EXPECTED = {
    "off": "method not in effect: The cache was none, not dynamic.",
    "lengths": "output lengths differ: 1 of 9 timed responses have 21 tokens, not 24",
    "cache": "prompt from a prefix cache: up to 3 of 4 prompt tokens in 9 of 9 timed requests",
    "cold": "warm-up not settled: the first timed request ran ",
    "drift": "drift: the last third of the requests ran ",
    "recompiles": "recompilation in the timed part: 2 frames recompiled",
    "sampling": "sampling parameters not as requested: repetition_penalty is 1.3, not 1",
    "dtype": "other dtype: the weights were loaded as float16, not bfloat16",
    "incomparable": "incomparable: float16 instead of bfloat16, top_p 1, which is its default",
    "words": "",
}
DETERMINED = (
    "method not", "output lengths", "prompt from", "warm-up", "drift", "recompilation", "sampling", "other dtype",
    "incomparable",
)  # fmt: skip


def add_methods(work: Workplace) -> list[str]:
    """A method for each flaw, and one without, as a user adds them."""
    rows = []
    for name in (REFERENCE, *EXPECTED):
        rows += [f"[methods.{name}]", f'summary = "{name}"', f"engine = {json.dumps(str(ENGINE))}"]
        rows += ['environments = { cpu = "plain" }', 'must_show = { cache = "dynamic" }']
        if name != REFERENCE:
            rows += [f'reference = "{REFERENCE}"', 'differs = "its flaw"', f'options = {{ flaw = "{name}" }}']
    (private_folder(work.config / "methods") / "flawed.toml").write_text("\n".join(rows) + "\n")
    return [REFERENCE, *EXPECTED]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionFolder]:
    """One session of all the methods, while another process keeps two cores busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for work in opened(tmp_path_factory.mktemp("planted")):
            yield work.run(*add_methods(work), requests=9, max_new_tokens=24, dtype="bfloat16")
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def rows(session: SessionFolder) -> dict[str, ComparisonRow]:
    comparison: Comparison = compare(Store(session.path.parent), [(session.id, None)])
    return {row.method: row for row in comparison.rows}


@pytest.mark.parametrize("flaw", [flaw for flaw, flag in EXPECTED.items() if flag])
def test_a_planted_flaw_is_flagged(rows: dict[str, ComparisonRow], flaw: str) -> None:
    assert rows[flaw].status == "ok", rows[flaw].problem
    assert any(flag.startswith(EXPECTED[flaw]) for flag in rows[flaw].flags), rows[flaw].flags


def test_no_method_has_a_flaw_of_another(rows: dict[str, ComparisonRow]) -> None:
    for name, row in rows.items():
        found = [flag for flag in row.flags if flag.startswith(DETERMINED)]
        assert all(EXPECTED.get(name) and flag.startswith(EXPECTED[name]) for flag in found), (name, found)


def test_heavy_load_beside_is_flagged(rows: dict[str, ComparisonRow]) -> None:
    loaded = [name for name, row in rows.items() if any(flag.startswith("CPU contention") for flag in row.flags)]
    assert REFERENCE in loaded


def test_other_words_are_found_where_they_begin(session: SessionFolder, rows: dict[str, ComparisonRow]) -> None:
    assert rows["words"].first_difference == 2
    assert rows["words"].equal_tokens_share == 0.75
    assert "0.125 apart, a near tie in bfloat16" in rows["words"].difference
    assert rows["cache"].first_difference is None
    evidence = [json.loads(run["evidence"]) for run in runs_of(session)]
    assert all("greedy" in facts for facts in evidence)


def test_a_process_that_joins_the_gpu_in_mid_block_is_flagged_in_that_block(tmp_path: Path) -> None:
    signs = private_folder(tmp_path / "signs")
    for work in opened(tmp_path):
        (private_folder(work.config / "methods") / "shared.toml").write_text(
            f"[methods.shared]\nsummary = 'shared'\nengine = {json.dumps(str(ENGINE))}\n"
            f"environments = {{ cpu = 'plain' }}\noptions = {{ flaw = 'shared', signs = {json.dumps(str(signs))} }}\n"
        )
        plan = dataclasses.replace(
            work.plan("shared", requests=6, blocks=2),
            device="0",
            device_name="NVIDIA H200",
            gpu_uuids=[FakeNvml().uuid(0)],
            gpu_visible=[FakeNvml().uuid(0)],
            gpu_sources=["gpu0"],
        )
        folder, lock = create(private_folder(work.home / "sessions"), plan)
        command = [sys.executable, "-m", "tests.validity.shared_gpu_conductor", str(folder.path), str(lock), str(signs)]
        try:
            done = subprocess.run(
                command, pass_fds=(lock,), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
            )
        finally:
            os.close(lock)
        assert done.returncode == 0, done.stderr
        shared = {
            run["block"]: [flag for flag in run["flags"] if flag.startswith("another process")]
            for run in runs_of(folder)
            if run["status"] == "ok"
        }
        assert shared == {
            0: [],
            1: ["another process on the GPU: 1 compute process of other programs on gpu0 during the timed part"],
        }

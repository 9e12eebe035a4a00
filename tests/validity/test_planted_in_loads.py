"""Flaws of a load planted in real sessions, conductor, warden and runner included, and found by their flags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from methods.base.home import private_folder
from sessions.disk.frame_schema import read_frame
from sessions.disk.session_folder import SessionFolder
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace, runs_of

ENGINE: Final = Path(__file__).with_name("flawed_serving_engine.py")
STALL_S: Final = 0.5
EXPECTED: Final = {
    "flawless": "",
    "cache": "prompt from a prefix cache: 75 % of the prompt tokens, in 8 of 8 timed requests",
    "ends-early": "output lengths differ: 1 of 8 timed responses have 6 tokens, not 12",
    "serial": "requests did not overlap: of 4 in flight at most 1 were generating at once",
}
DETERMINED: Final = ("prompt from", "output lengths", "requests did not", "fewer requests", "requests failed")


def session(work: Workplace, flaws: Sequence[str], **load: Any) -> SessionFolder:
    """With a method for each of these flaws."""
    rows = []
    for flaw in flaws:
        rows += [f"[methods.{flaw}]", f'summary = "{flaw}"', f"engine = {json.dumps(str(ENGINE))}"]
        rows += ['environments = { cpu = "plain" }', f'options = {{ flaw = "{flaw}", stall_s = {STALL_S} }}']
    (private_folder(work.config / "methods") / "flawed.toml").write_text("\n".join(rows) + "\n")
    folder = work.run(*flaws, max_new_tokens=12, warmup=1, **load)
    runs = runs_of(folder)
    assert [run["status"] for run in runs] == ["ok"] * len(flaws), [run["error"] for run in runs]
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def flags(shared: Workplace) -> Mapping[str, list[str]]:
    """By flaw."""
    return {run["method"]: run["flags"] for run in runs_of(session(shared, [*EXPECTED], concurrency="4", requests=2))}


@pytest.mark.parametrize("flaw", EXPECTED)
def test_a_flaw_in_a_closed_loop_is_flagged_and_no_other(flags: Mapping[str, list[str]], flaw: str) -> None:
    found = [flag for flag in flags[flaw] if flag.startswith(DETERMINED)]
    assert found == list(filter(None, [EXPECTED[flaw]]))


def test_a_client_that_stalls_in_an_open_loop_is_flagged_and_seen_in_its_latencies(shared: Workplace) -> None:
    """Those that were due meanwhile have waited: counted from when they were sent, they would seem fast."""
    folder = session(shared, ["stalls"], rate="20", burstiness=100.0, requests=1)
    (run,) = runs_of(folder)
    assert [flag for flag in run["flags"] if flag.startswith("client stalled: ")]
    timed = read_frame(folder.frame("requests"), "requests").filter(~pl.col("warmup"))
    waited_s = ((timed["start_ns"] - timed["scheduled_ns"]) * 1e-9).to_numpy()
    since_sent_s = ((timed["first_token_ns"] - timed["start_ns"]) * 1e-9).to_numpy()
    assert (waited_s > STALL_S / 2).sum() > 1
    assert timed["ttft_s"].to_numpy() == pytest.approx(waited_s + since_sent_s)

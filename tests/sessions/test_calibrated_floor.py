"""`kasoku calibrate --fidelity`: from two sessions to the kept floor, which later comparisons then use."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessions.calibrate.calibrated_floor import keep_floors
from sessions.calibrate.calibration_session import CalibrationError
from sessions.disk.plan import PlannedMethod
from sessions.disk.store import Store
from sessions.verdict.comparison import compare
from sessions.verdict.fidelity_floor import floor_of
from tests.verdicts.made_store import make_session
from tests.verdicts.made_windows import Losses, add_fidelity, figures
from tui.command_line import main

SMALL = [-0.001, -0.001, 0.001, 0.001] * 4
LARGE = [-0.004, -0.004, 0.004, 0.004] * 4


def session(home: Path, dtype: str, losses: Losses) -> str:
    methods = [PlannedMethod(name=name, engine="e", environment="torch", reference=None) for name in losses]
    plan = {"methods": methods, "dtype": dtype}
    made = make_session(home / "sessions", {name: [100.0] * 3 for name in losses}, plan=plan)
    add_fidelity(made, losses)
    return made.id


def test_the_floor_is_the_largest_of_both_sessions_over_all_windows(tmp_path: Path) -> None:
    bf16 = session(tmp_path, "bfloat16", {"baseline": {"prefill": [0.0] * 16}, "sdpa": {"prefill": SMALL}})
    float32 = session(tmp_path, "float32", {"baseline": {"prefill": LARGE, "decode": "it has no step"}})
    store = Store(tmp_path / "sessions")
    floors = keep_floors(store, [bf16, float32], tmp_path)
    expected = floor_of({"baseline": figures(LARGE)}, "", 16)
    assert expected is not None
    assert set(floors) == {"prefill"}
    assert floors["prefill"].nats == pytest.approx(expected.nats)
    assert floors["prefill"].methods == ["baseline in bfloat16", "sdpa in bfloat16", "baseline in float32"]
    later = session(tmp_path, "bfloat16", {"int8": {"prefill": [0.003 + each for each in SMALL]}})
    (row,) = compare(store, [(later, None)]).rows
    assert row.fidelity_floor == pytest.approx(expected.nats)
    assert row.fidelity.startswith("no loss found: at most")


def test_without_scores_there_is_no_floor_and_why(tmp_path: Path) -> None:
    unscored = session(tmp_path, "bfloat16", {"baseline": {"prefill": "it has no tokeniser"}})
    with pytest.raises(CalibrationError, match=r"No fidelity floor can be measured here: it has no tokeniser\."):
        keep_floors(Store(tmp_path / "sessions"), [unscored], tmp_path)


def test_a_calibration_needs_a_method_or_to_be_of_fidelity(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate"]) == 2
    assert capsys.readouterr().err == (
        "kasoku: Name the method to calibrate, or say --fidelity: `kasoku calibrate baseline`.\n"
    )

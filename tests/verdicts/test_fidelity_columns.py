"""Fidelity in a comparison: from the frame to the columns, the floor, and the fastest within a loss."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from sessions.device.device_key import device_key
from sessions.disk.plan import PlannedMethod
from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.export.csv_export import comparison_csv
from sessions.verdict.at_most_loss import sentence, within
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.fidelity_floor import Floor, floor_key, keep
from tests.verdicts.made_store import make_session
from tests.verdicts.made_windows import Losses, add_fidelity
from tui.command_line import main
from tui.print.result_table import print_comparison

RATES = {"baseline": [100.0] * 3, "sdpa": [110.0] * 3, "int8": [200.0] * 3, "int4": [300.0] * 3}
FLOOR_METHODS = ("baseline", "sdpa")
NOTHING = [0.0] * 16
ROUNDING = [-0.001, -0.001, 0.001, 0.001] * 4
BOTH: Losses = {
    "baseline": {"prefill": NOTHING, "decode": NOTHING},
    "sdpa": {"prefill": ROUNDING, "decode": ROUNDING[::-1]},
    "int8": {"prefill": [0.001 + each for each in ROUNDING], "decode": [0.001 + each for each in ROUNDING]},
    "int4": {"prefill": [0.05 + each for each in ROUNDING], "decode": [0.04 + each for each in ROUNDING]},
}


def methods(rates: Mapping[str, Sequence[float]]) -> list[PlannedMethod]:
    return [
        PlannedMethod(
            name=name,
            engine="e",
            environment="torch",
            reference=None if name == "baseline" else "baseline",
            fidelity_floor=name in FLOOR_METHODS,
        )
        for name in rates
    ]


def scored(home: Path, losses: Losses, run: Mapping[str, Mapping[str, Any]] | None = None) -> SessionFolder:
    made = make_session(home / "sessions", RATES, plan={"methods": methods(RATES)}, run=run)
    add_fidelity(made, losses)
    return made


def compared(home: Path, made: SessionFolder) -> tuple[Comparison, dict[str, ComparisonRow]]:
    comparison = compare(Store(home / "sessions"), [(made.id, None)])
    return comparison, {row.method: row for row in comparison.rows}


def test_the_columns_of_both_paths_and_the_verdicts(tmp_path: Path) -> None:
    comparison, rows = compared(tmp_path, scored(tmp_path, BOTH))
    int4 = rows["int4"]
    assert int4.dnll == pytest.approx(0.05)
    assert int4.dnll_decode == pytest.approx(0.04)
    assert int4.dnll_low is not None
    assert int4.dnll_high is not None
    assert int4.dnll_low < 0.05 < int4.dnll_high
    assert int4.perplexity_ratio == pytest.approx(math.exp(0.05))
    assert int4.top1_agreement == 1
    assert int4.fidelity.startswith("differs by 0.050 nats a token")
    assert int4.fidelity_decode.startswith("differs by 0.040 nats a token")
    assert rows["int8"].fidelity.startswith("no loss found: at most 0.00")
    assert rows["sdpa"].fidelity_decode.startswith("no loss found")
    assert rows["baseline"].fidelity == "no loss found: all 2048 scores are the reference's"
    assert int4.fidelity_floor == rows["baseline"].fidelity_floor
    assert int4.fidelity_floor is not None
    assert 0.001 < int4.fidelity_floor < 0.01
    (said,) = [remark for remark in comparison.remarks if "fidelity floor" in remark]
    assert "baseline, sdpa against the reference, on half of the windows" in said


def test_a_session_that_was_not_scored_says_nothing_of_it(tmp_path: Path) -> None:
    made = make_session(tmp_path / "sessions", RATES)
    comparison, rows = compared(tmp_path, made)
    assert rows["int4"].dnll is None
    assert rows["int4"].fidelity == ""
    assert not [remark for remark in comparison.remarks if "fidelity" in remark]
    assert "ΔNLL" not in printed(comparison)
    assert "fidelity was not measured here" in sentence(comparison.rows, 0.01)


def test_a_path_without_scores_is_null_with_its_reason(tmp_path: Path) -> None:
    losses: Losses = {**BOTH, "int8": {"prefill": NOTHING, "decode": "the engine cannot be made to take an id"}}
    _, rows = compared(tmp_path, scored(tmp_path, losses))
    assert rows["int8"].dnll == 0
    assert rows["int8"].dnll_decode is None
    assert rows["int8"].missing["dnll_decode"] == "the engine cannot be made to take an id"
    assert rows["int8"].fidelity_decode == "cannot be measured here: the engine cannot be made to take an id"


@pytest.mark.parametrize("run", [{"dtype": "float16"}, {"in_effect": False}])
def test_a_method_that_is_not_as_the_reference_makes_no_floor(tmp_path: Path, run: dict[str, Any]) -> None:
    _, rows = compared(tmp_path, scored(tmp_path, BOTH, run={"sdpa": run}))
    assert rows["int8"].fidelity_floor is None
    assert "no floor is known here" in rows["int8"].fidelity


def test_against_another_reference_model_no_method_is_the_reference(tmp_path: Path) -> None:
    plan = {"methods": methods(RATES), "reference_model": "the/unquantised"}
    made = make_session(tmp_path / "sessions", RATES, plan=plan)
    add_fidelity(made, BOTH)
    _, rows = compared(tmp_path, made)
    assert rows["int8"].fidelity_floor is None


def test_a_calibrated_floor_goes_before_the_sessions_own(tmp_path: Path) -> None:
    made = scored(tmp_path, BOTH)
    file = made.read()
    floor = Floor(nats=0.2, flips=0.01, methods=["baseline", "float32"], session="then", windows=16)
    for environment, model in (("torch", "aa"), ("other", "aa"), ("torch", "bb")):
        key = floor_key(device_key(file.plan, file.machine), environment, model)
        keep(
            tmp_path,
            key,
            {
                "prefill": floor
                if (environment, model) == ("torch", "aa")
                else Floor(nats=9, flips=1, methods=[], session="", windows=1)
            },
        )
    comparison, rows = compared(tmp_path, made)
    assert rows["int4"].fidelity_floor == 0.2
    assert "below the floor of 0.200" in rows["int4"].fidelity
    assert rows["int4"].fidelity_floor_decode is None
    assert any("baseline, float32 against the reference, as calibrated (session then)" in r for r in comparison.remarks)


def test_scores_of_a_later_block_and_of_the_last_attempt_count(tmp_path: Path) -> None:
    made = scored(tmp_path, BOTH)
    frame = pl.read_parquet(made.frame("fidelity"))
    later = frame.with_columns(block=pl.lit(2, dtype=pl.Int64), nll=pl.col("nll") + 128.0)
    foreign = frame.with_columns(block=pl.lit(2, dtype=pl.Int64), attempt=pl.lit(3, dtype=pl.Int64), nll=pl.lit(0.0))
    pl.concat([later, frame, foreign]).write_parquet(made.frame("fidelity"))
    _, rows = compared(tmp_path, made)
    assert rows["int4"].dnll == pytest.approx(1.05)


def test_a_damaged_frame_leaves_the_speed_and_says_so(tmp_path: Path) -> None:
    made = scored(tmp_path, BOTH)
    made.frame("fidelity").write_bytes(b"PAR1 no more")
    _, rows = compared(tmp_path, made)
    assert rows["int4"].ratio == pytest.approx(3, rel=0.01)
    assert rows["int4"].dnll is None
    assert rows["int4"].fidelity.startswith("cannot be measured here: its fidelity cannot be read")


def test_the_data_and_the_terminal_table_have_them(tmp_path: Path) -> None:
    comparison, _ = compared(tmp_path, scored(tmp_path, BOTH))
    *_, int4 = csv.DictReader(io.StringIO(comparison_csv(comparison)))
    assert float(int4["dnll"]) == pytest.approx(0.05)
    assert float(int4["dnll_low_decode"]) < 0.04 < float(int4["dnll_high_decode"])
    text = printed(comparison)
    heading, *lines = text.splitlines()
    assert heading.split()[-3:] == ["ΔNLL", "ΔNLL", "dec."]
    assert lines[3].split()[-2:] == ["0.050", "0.040"]
    assert "fidelity: differs by 0.050 nats a token" in text
    assert "in decoding: differs by 0.040" in text


def test_the_fastest_within_a_loss_is_named(tmp_path: Path) -> None:
    comparison, rows = compared(tmp_path, scored(tmp_path, BOTH))
    assert [row.method for row in within(comparison.rows, 0.01)] == ["int8", "sdpa", "baseline"]
    assert within(comparison.rows, 0.1)[0] == rows["int4"]
    assert sentence(comparison.rows, 0.01).startswith(
        "Fastest with a loss of at most 0.010 nats a token: int8 (200.0 tokens/s, 2.00× baseline), which loses at most"
    )
    assert rows["int4"].dnll_high is not None
    assert within([rows["int4"]], rows["int4"].dnll_high) == [rows["int4"]]
    assert within([rows["int4"]], rows["int4"].dnll_high - 1e-9) == []


def test_what_is_null_on_one_path_or_not_in_effect_never_qualifies(tmp_path: Path) -> None:
    losses: Losses = {**BOTH, "int4": {"prefill": NOTHING, "decode": "it has no forcing"}}
    comparison, rows = compared(tmp_path, scored(tmp_path, losses, run={"int8": {"in_effect": False}}))
    assert [row.method for row in within(comparison.rows, 50.0)] == ["sdpa", "baseline"]
    assert sentence([rows["int4"]], 1.0) == (
        "No method is known to lose at most 1.00 nats a token; not known in prefill and in decoding: int4."
    )


def test_the_command_names_it_after_the_table_and_beside_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KASOKU_HOME", str(tmp_path))
    made = scored(tmp_path, BOTH)
    assert main(["compare", made.id, "--at-most-loss", "0.01"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith("Fastest with a loss of at most 0.010 nats a token: int8")
    )
    assert main(["compare", made.id, "--at-most-loss", "0", "--json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 4
    assert said.err.startswith("Fastest with a loss of at most 0.0000 nats a token: baseline")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("much", "'much' is not a number of nats a token"),
        ("nan", "nan is out of range"),
        ("-0.1", "-0.1 is out of range"),
        ("inf", "inf is out of range"),
        ("", "'' is not a number"),
    ],
)
def test_a_loss_that_is_none_is_refused_in_one_line(value: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "last", f"--at-most-loss={value}"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert why in said.err


def test_fidelity_is_offered_of_a_quick_session_that_has_ended_without(tmp_path: Path) -> None:
    rates = {"base": [100.0] * 3, "fast": [300.0, 301.0, 299.0]}
    quick = make_session(tmp_path / "sessions", rates, plan={"preset": "quick"})
    comparison = compare(Store(tmp_path / "sessions"), [(quick.id, None)])
    assert comparison.unscored == (quick.id,)
    assert f"one more round adds it: kasoku resume {quick.id} --fidelity\n" in printed(comparison)
    add_fidelity(quick, {"base": {"prefill": NOTHING}})
    for other in (
        quick,
        make_session(tmp_path / "sessions", rates, plan={"preset": "article"}),
        make_session(tmp_path / "sessions", rates, plan={"preset": "quick", "fidelity": True}),
        make_session(tmp_path / "sessions", rates, plan={"preset": "quick", "model": "synthetic:tiny-llama"}),
    ):
        comparison = compare(Store(tmp_path / "sessions"), [(other.id, None)])
        assert comparison.unscored == ()
        assert "--fidelity" not in printed(comparison)


def printed(comparison: Comparison) -> str:
    out = io.StringIO()
    print_comparison(Console(file=out, width=200, color_system=None), comparison)
    return out.getvalue()

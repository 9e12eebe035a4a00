from __future__ import annotations

import json

import polars as pl
import pytest

from sessions.disk.frame_schema import RUNS
from sessions.frames.block_phases import compile_columns, method_segments, phase_columns

S = 1_000_000_000
ALL = {"import": 1 * S, "load": 3 * S, "warmup": 6 * S, "timed": 10 * S, "evidence": 15 * S, "greedy": 21 * S}


def test_each_phase_lasts_until_the_next_one_and_closing_until_the_blocks_end() -> None:
    row = phase_columns({**ALL, "close": 28 * S}, 0, 30 * S)

    assert row.pop("timed_share") == pytest.approx(5 / 30)
    assert row == {
        "start_s": 1.0, "import_s": 2.0, "warmup_s": 4.0, "timed_s": 5.0, "evidence_s": 6.0, "greedy_s": 7.0,
        "close_s": 2.0,
    }  # fmt: skip


def test_a_phase_that_was_not_gone_through_has_no_seconds() -> None:
    without_pass = {name: t for name, t in ALL.items() if name != "greedy"} | {"close": 28 * S}

    assert phase_columns(without_pass, 0, 30 * S)["evidence_s"] == 13.0
    assert "greedy_s" not in phase_columns(without_pass, 0, 30 * S)
    assert phase_columns({"import": S, "load": 3 * S}, 0, 9 * S) == {"start_s": 1.0, "import_s": 2.0}
    assert phase_columns({}, 0, None) == {}


@pytest.mark.parametrize(
    ("evidence", "columns"),
    [
        ({"compile_s": {"warmup": 2.5}}, {"warmup_compile_s": 2.5}),
        ({"compile_s": {"load": 1, "warmup": 0.0}}, {"load_compile_s": 1.0}),
        ({"compile_s": {"load": None, "warmup": "long"}}, {}),
        ({"compile_s": {"load": -1, "warmup": True}}, {}),
        ({"compile_s": 7}, {}),
        ([], {}),
        (None, {}),
    ],
)
def test_compiling_is_what_the_engine_says_of_it(evidence: object, columns: dict[str, float]) -> None:
    assert compile_columns(json.dumps(evidence)) == columns
    assert compile_columns(None) == {}


def runs(*rows: dict[str, object]) -> pl.DataFrame:
    given = {"session": "s", "attempt": 0, "status": "ok"}
    return pl.DataFrame([dict.fromkeys(RUNS) | given | row for row in rows], schema=RUNS)


def test_a_methods_segments_are_means_over_its_blocks_that_count() -> None:
    first = {"start_s": 1.0, "load_s": 4.0, "warmup_s": 10.0, "warmup_compile_s": 8.0, "timed_s": 2.0, "greedy_s": 3.0}
    then = {"start_s": 1.0, "load_s": 2.0, "warmup_s": 4.0, "warmup_compile_s": 2.0, "timed_s": 4.0}
    frame = runs(
        {"method": "a", "block": 0, **first},
        {"method": "old", "block": 0, "load_s": 1.0, "timed_s": 2.0},
        {"method": "a", "block": 1, **then},
        {"method": "a", "block": 2, **first, "load_s": 99.0, "status": "failed"},
    )

    found = {
        name: {segment.name: seconds for segment, seconds in segments}
        for name, segments in method_segments(frame).items()
    }
    assert found == {
        "a": {"interpreter": 1.0, "loading": 3.0, "compiling": 5.0, "warm-up": 2.0, "timed": 3.0, "greedy pass": 1.5}
    }

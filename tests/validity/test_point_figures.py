"""Figures of a point, computed by hand (tests/validity/made_loads.py)."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sessions.disk.frame_schema import FrameRow, read_frame
from sessions.frames.counting import timed_and_ended_well, with_attempt, with_point
from sessions.frames.latencies import latency_percentiles
from sessions.frames.metrics import POINT_KEY
from sessions.frames.point_columns import NO_STEADY_PART, add_equal_shares, add_point_figures, add_steady_energy
from sessions.frames.point_figures import point_figures, with_steady_tokens
from sessions.frames.response_tokens import ResponseTokens
from sessions.frames.steady import with_steady
from tests.validity.made_frames import telemetry, tenths
from tests.validity.made_loads import KEY, SECOND, TWO_AT_ONCE, frames

COUNTED = pl.DataFrame({"method": ["m"], "block": [0], "attempt": [0], "point": ["c2"]})


def test_two_in_flight_are_what_a_hand_computes() -> None:
    requests, tokens = frames(TWO_AT_ONCE)
    assert requests["steady"].to_list() == [False, True, True, False]
    assert requests["steady_tokens"].to_list() == [3, 4, 4, 3]
    (row,) = point_figures(requests).to_dicts()
    assert row == row | {
        "timed_requests": 4,
        "timed_tokens": 16,
        "steady_from_ns": SECOND,
        "steady_to_ns": 8 * SECOND,
        "steady_tokens": 14,
        "steady_requests": 2,
        "most_decoding": 2,
    }
    expected = {
        "wall_s": 9.0,
        "steady_s": 7.0,
        "tok_s_total": 14 / 7,
        "tok_s_total_whole": 16 / 9,
        "rps": 3.5 / 7,
        "in_flight": 13.8 / 7,
        "decoding": 19 / 11,
        "tok_s_user": 1.0,
        "ttft_s_p50": 0.95,
        "tpot_s_p99": 1.0,
        "queue_s_p50": None,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    _, blocks, methods = latency_percentiles(ResponseTokens.of(tokens), requests, COUNTED)
    assert blocks.select("itl_s_p50", "itl_s_p90", "itl_s_p99").row(0) == pytest.approx((1.0, 1.0, 1.0))
    assert methods.select("method", "point", "itl_s_p90").row(0) == ("m", "c2", pytest.approx(1.0))


def test_only_gaps_within_the_steady_part_are_latencies() -> None:
    slow_ramp = TWO_AT_ONCE | {0: (0.0, [0.5, 2.0, 3.9, 4.0]), 3: (5.1, [6.0, 8.0, 8.5, 9.0])}
    requests, tokens = frames(slow_ramp)
    _, blocks, _ = latency_percentiles(ResponseTokens.of(tokens), requests, COUNTED)
    assert blocks["itl_s_p99"].to_list() == pytest.approx([1.0])


def test_a_late_client_does_not_shorten_a_latency() -> None:
    late = [round(time * SECOND) for time in (0.0, 0.5, 2.0, 5.0)]
    requests, _ = frames(TWO_AT_ONCE, scheduled_ns=late, queue_s=[0.0, 0.5, 2.0, 0.0])
    (row,) = point_figures(requests).to_dicts()
    assert row["ttft_s_p50"] == pytest.approx((1.5 + 3.0) / 2)
    assert row["ttft_s_p99"] == pytest.approx(3.0 - 0.01 * 1.5)
    assert row["queue_s_p50"] == pytest.approx((0.5 + 2.0) / 2)


def test_where_all_slots_were_never_taken_there_is_the_whole_alone() -> None:
    requests, _ = frames(TWO_AT_ONCE, concurrency=3)
    (row,) = point_figures(requests).to_dicts()
    assert row["tok_s_total_whole"] == pytest.approx(16 / 9)
    assert (row["steady_requests"], row["tok_s_total"], row["rps"], row["ttft_s_p50"]) == (0, None, None, None)
    runs: list[FrameRow] = [{**KEY, "point": "c2", "missing": {}}]
    add_point_figures(runs, requests, load=True)
    assert runs[0]["missing"] == {"tok_s_total": NO_STEADY_PART}


def test_an_open_loop_is_steady_once_a_first_request_has_ended() -> None:
    """One a second, each two seconds long: one in flight at first, two from then on."""
    responses = {number: (float(number), [number + 1.0, number + 2.0]) for number in range(6)}
    requests, _ = frames(responses, concurrency=None, rate=1.0, point="rate 1")
    (row,) = point_figures(requests).to_dicts()
    assert (row["steady_from_ns"], row["steady_to_ns"]) == (2 * SECOND, 5 * SECOND)
    assert requests["steady"].to_list() == [False, False, True, True, False, False]
    assert (row["in_flight"], row["tok_s_total"]) == (pytest.approx(2.0), pytest.approx(2.0))
    assert (row["tok_s_total_whole"], row["wall_s"]) == (pytest.approx(12 / 7), pytest.approx(7.0))
    requests, _ = frames({0: (0.0, [1.0, 9.0]), 1: (1.0, [2.0, 9.5])}, concurrency=None, rate=1.0, point="rate 1")
    runs: list[FrameRow] = [{**KEY, "point": "rate 1", "rate": 1.0, "missing": {}}]
    add_point_figures(runs, requests, load=True)
    assert runs[0]["tok_s_total"] is None
    assert "before the last was due" in runs[0]["missing"]["tok_s_total"]


def test_what_failed_or_warmed_up_counts_for_nothing() -> None:
    finishes = ["length", "error", "length", "length"]
    requests, _ = frames(TWO_AT_ONCE, finish_reason=finishes)
    (row,) = point_figures(requests).to_dicts()
    assert (row["timed_requests"], row["timed_tokens"], row["steady_requests"]) == (3, 12, 1)
    assert row["tok_s_total"] == pytest.approx(10 / 7)
    requests, _ = frames(TWO_AT_ONCE, warmup=[True, False, False, False])
    (row,) = point_figures(requests).to_dicts()
    assert (row["timed_requests"], row["steady_from_ns"]) == (3, 41 * SECOND // 10)


def test_one_at_a_time_a_step_has_one_sequence() -> None:
    apart = {0: (0.0, [1.0, 2.0]), 1: (2.5, [3.5, 4.5])}
    requests, _ = frames(apart, concurrency=1, point="c1")
    (row,) = point_figures(requests).to_dicts()
    assert (row["decoding"], row["most_decoding"], row["steady_requests"]) == (1.0, 1, 2)
    assert row["tok_s_total"] == row["tok_s_total_whole"] == pytest.approx(4 / 4.5)  # the gap between them counts


def test_a_part_of_five_seconds_has_its_joules() -> None:
    seconds = tenths(0, 10)
    readings = telemetry(seconds, gpu0__energy_j=[100 * second for second in seconds])
    row: FrameRow = {"steady_from_ns": SECOND, "steady_to_ns": 8 * SECOND, "steady_energy_j": None, "missing": {}}
    add_steady_energy(row, readings, ["gpu0"])
    assert row["steady_energy_j"] == pytest.approx(700)
    row |= {"steady_to_ns": 3 * SECOND, "steady_energy_j": None}
    add_steady_energy(row, readings, ["gpu0"])
    assert row["steady_energy_j"] is None
    assert row["missing"] == {"steady_energy_j": "the steady part lasted 2.0 s; the energy counter needs 5 s or more"}


def test_greedy_text_under_load_is_compared_with_the_same_prompt_alone() -> None:
    beside, said = frames(TWO_AT_ONCE, prompt_index=[0, 1, 0, 1], osl=4)
    apart = {10: (20.0, [21.0, 22.0, 23.0, 24.0]), 11: (25.0, [26.0, 27.0, 28.0, 29.0])}
    alone, own = frames(apart, concurrency=1, point="c1", prompt_index=[0, 1], osl=4)
    changed = said.with_columns(
        token_id=pl.when(request=2, index=3).then(99).otherwise("token_id")  # one token of one response
    )
    runs: list[FrameRow] = [{**KEY, "point": point, "missing": {}} for point in ("c2", "c1")]
    requests, tokens = pl.concat([beside, alone]), pl.concat([changed, own])
    add_equal_shares(runs, requests, ResponseTokens.of(tokens), greedy=True)
    assert [run["equal_alone_share"] for run in runs] == [0.75, 1.0]
    add_equal_shares(runs, beside, ResponseTokens.of(changed), greedy=True)
    assert runs[0]["equal_alone_share"] is None
    assert "add 1 to the list" in runs[0]["missing"]["equal_alone_share"]
    add_equal_shares(runs, requests, ResponseTokens.of(tokens), greedy=False)
    assert runs[0]["missing"]["equal_alone_share"].startswith("tokens were sampled")


KEPT = Path(__file__).parents[1] / "sessions" / "written_by_0_1_0" / "sessions"


@pytest.mark.parametrize("session", sorted(path.name for path in KEPT.iterdir()))
def test_of_a_real_session_one_request_at_a_time_every_figure_is_todays(session: str) -> None:
    """Of the median and the 99th percentile of the gaps too, and throughput up to the gaps between requests."""
    said = {name: read_frame(KEPT / session / f"{name}.parquet", name) for name in ("runs", "requests", "tokens")}
    tokens = with_attempt(said["tokens"])
    requests = with_steady_tokens(with_steady(with_point(with_attempt(said["requests"]))), ResponseTokens.of(tokens))
    runs = with_point(with_attempt(said["runs"]))
    _, gaps, _ = latency_percentiles(ResponseTokens.of(tokens), requests, runs.select(POINT_KEY))
    rows = point_figures(requests).join(gaps, on=POINT_KEY, how="left").join(runs, on=POINT_KEY, suffix="_then")
    assert len(rows)
    for row in rows.iter_rows(named=True):
        own = requests.filter(timed_and_ended_well(), method=row["method"], block=row["block"], attempt=row["attempt"])
        assert row["ttft_s_p50"] == pytest.approx(own["ttft_s"].median())
        assert row["tok_s_user"] == pytest.approx(own["decode_tok_s"].mean())
        assert row["timed_requests"] == row["steady_requests"] == len(own)
        assert (row["decoding"], row["most_decoding"]) == (1.0, 1)
        assert (row["itl_s_p50"], row["itl_s_p99"]) == pytest.approx((row["itl_s_p50_then"], row["itl_s_p99_then"]))
        between_s = row["steady_s"] - own["e2e_s"].sum()
        assert between_s >= 0
        assert row["tok_s_total"] == pytest.approx(own["output_tokens"].sum() / (own["e2e_s"].sum() + between_s))
        assert row["tok_s_total"] == pytest.approx(own["e2e_tok_s"].mean(), rel=0.05 + between_s / row["steady_s"])

"""A row for each method and point, judged at the primary one."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from sessions.disk.loads import Loads
from sessions.disk.point import Point
from sessions.disk.slo import Slo
from sessions.disk.store import Store
from sessions.export.csv_export import comparison_csv
from sessions.frames.bandwidth_limit import bytes_per_token
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.load_figures import CLOSED
from sessions.verdict.load_row import LoadRow
from sessions.verdict.result_columns import columns_of
from sessions.verdict.statistics import interval_from_zero, mean_interval
from tests.verdicts.made_load_store import C1, C2, C4, MODEL, TOKENS_EACH, make_load_session
from tests.verdicts.made_store import make_session
from tui.command_line import main
from tui.words.load_lines import load_lines

BASE = {"c1": [100.0, 101.0, 99.0], "c2": [180.0, 181.0, 179.0], "c4": [300.0, 302.0, 298.0]}
NO_SLO = Loads()
FAST = {"c1": [101.0, 100.0, 100.0], "c2": [360.0, 362.0, 358.0], "c4": [900.0, 905.0, 895.0]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "sessions")


def known(value: float | None) -> float:
    assert value is not None
    return value


def compared(store: Store, loads: Loads = NO_SLO) -> Comparison:
    made = make_load_session(store.path, {"base": BASE, "fast": FAST}, loads=loads)
    return compare(store, [(made.id, None)])


def at(comparison: Comparison, method: str, point: str) -> LoadRow:
    (row,) = (row for row in comparison.rows if isinstance(row, LoadRow) and (row.method, row.point) == (method, point))
    return row


def test_there_is_a_row_for_each_method_and_point_those_of_a_point_together(store: Store) -> None:
    comparison = compared(store)
    assert [(row.point, row.method) for row in comparison.rows if isinstance(row, LoadRow)] == [
        (point, method) for point in ("c1", "c2", "c4") for method in ("base", "fast")
    ]
    row = at(comparison, "fast", "c4")
    assert row.tok_s_total == pytest.approx(900, rel=0.01)
    assert known(row.tok_s_total_low) < known(row.tok_s_total) < known(row.tok_s_total_high)
    assert row.tok_s_user == pytest.approx(225, rel=0.01)
    assert (row.batch, row.concurrency, row.rate, row.isl, row.osl, row.depth) == (None, 4, None, 3, TOKENS_EACH, 0)
    assert row.rps == pytest.approx(900 / TOKENS_EACH, rel=0.01)
    assert row.in_flight == pytest.approx(4, rel=0.01)
    assert known(row.tok_s_total_whole) < known(row.tok_s_total)
    assert row.equal_alone_share == 1.0


def test_blocks_far_apart_have_an_interval_from_0_and_its_whole_half_width(store: Store) -> None:
    rates = [10.0, 20.0, 270.0]
    made = make_load_session(store.path, {"base": {**BASE, "c1": rates}})
    row, students = at(compare(store, [(made.id, None)]), "base", "c1"), mean_interval(rates)
    assert students is not None
    assert students.low < 0
    assert row.tok_s_total_low == 0
    assert row.total_half_width == pytest.approx((students.high - students.low) / 2, rel=0.02)
    cut_off = interval_from_zero(rates)
    assert cut_off is not None
    assert cut_off.half_width == pytest.approx(students.half_width) == pytest.approx((students.high - students.low) / 2)


def test_the_csv_has_them_all_and_a_plain_session_is_as_it_was(store: Store) -> None:
    header, *rows = csv.reader(io.StringIO(comparison_csv(compared(store))))
    assert len(rows) == 6
    assert [row[header.index("point")] for row in rows] == ["c1", "c1", "c2", "c2", "c4", "c4"]
    plain = make_session(store.path, {"base": [100.0, 101.0, 99.0]})
    lines = comparison_csv(compare(store, [(plain.id, None)])).splitlines()
    assert lines[0].split(",") == [column.key for column in columns_of(ComparisonRow).data]


def test_the_primary_point_alone_is_judged_and_the_others_are_exploratory(store: Store) -> None:
    comparison = compared(store)
    assert [row.primary for row in comparison.rows if isinstance(row, LoadRow)] == [True, True] + [False] * 4
    assert "exploratory" not in at(comparison, "fast", "c1").verdict
    verdict = at(comparison, "fast", "c4").verdict
    assert verdict.startswith("3.00× faster")
    assert verdict.endswith("(exploratory)")
    (more,) = {row.more_blocks for row in comparison.rows if row.method == "fast" and row.more_blocks is not None} or {
        0
    }
    assert comparison.offers == ({at(comparison, "fast", "c1").session: more} if more else {})


def test_the_ratio_is_of_throughput_and_paired_by_block(store: Store) -> None:
    row = at(compared(store), "fast", "c2")
    assert row.ratio == pytest.approx(2.0, rel=0.005)


def test_one_in_flight_every_figure_is_that_of_a_plain_session(store: Store) -> None:
    values = [100.0, 101.0, 99.0]
    plain = make_session(store.path, {"base": values})
    made = make_load_session(store.path, {"base": {"c1": values}}, points=[C1])
    (alone,) = compare(store, [(plain.id, None)]).rows
    (row,) = compare(store, [(made.id, None)]).rows
    assert isinstance(row, LoadRow)
    for name in ("tok_s_mean", "tok_s_median", "ttft_s_median", "itl_s_p50", "itl_s_p99", "decode_tok_s_median"):
        assert getattr(row, name) == pytest.approx(getattr(alone, name), rel=1e-6), name
    assert row.tok_s_total == pytest.approx(alone.tok_s_mean, rel=1e-3)  # up to the gaps between requests


def test_mbu_counts_the_weights_once_a_step_and_the_cache_of_each_sequence(store: Store) -> None:
    comparison = compared(store)
    one, four = at(comparison, "base", "c1"), at(comparison, "base", "c4")
    found = bytes_per_token(MODEL, None, "bfloat16", 10**9, 3 + TOKENS_EACH / 2)
    assert found.weights is not None
    assert found.kv is not None
    assert one.decode_tok_s_median is not None
    assert four.decode_tok_s_median is not None
    assert one.mbu == pytest.approx((found.weights + found.kv) * one.decode_tok_s_median / 1e12)
    at_once = four.decoding
    assert at_once is not None
    assert 3.5 < at_once <= 4
    assert four.mbu == pytest.approx((found.weights + at_once * found.kv) * four.decode_tok_s_median / 1e12, rel=1e-6)


def test_goodput_is_of_requests_that_keep_every_bound_and_says_that_the_loop_is_closed(store: Store) -> None:
    comparison = compared(store, loads=Loads(slo="ttft:25ms,tpot:12ms"))
    good, late = at(comparison, "base", "c1"), at(comparison, "base", "c4")  # TTFT and TPOT are 10 and 13 ms
    assert good.goodput_rps == pytest.approx(good.rps)
    assert good.goodput_of == CLOSED
    assert late.goodput_rps == 0
    session = good.session
    again = compare(store, [(session, None)], slo=Slo.of("tpot:14ms"))
    assert at(again, "base", "c4").goodput_rps == pytest.approx(late.rps)
    without = compared(store)
    assert at(without, "base", "c1").goodput_rps is None
    assert "use --slo" in at(without, "base", "c1").missing["goodput_rps"]


def test_a_point_out_of_memory_is_its_row_and_the_others_stand(store: Store) -> None:
    fast = FAST | {"c4": [None, None, None]}
    made = make_load_session(store.path, {"base": BASE, "fast": fast})
    comparison = compare(store, [(made.id, None)])
    row = at(comparison, "fast", "c4")
    assert (row.status, row.problem, row.tok_s_total, row.verdict) == (
        "oom",
        "CUDA out of memory",
        None,
        "no block to compare with base" if row.blocks else "",
    )
    assert at(comparison, "fast", "c2").tok_s_total == pytest.approx(360, rel=0.01)


def test_in_an_open_loop_what_is_compared_is_the_response_and_not_the_rate(store: Store) -> None:
    slow = Point(name="rate 2", rate=2.0, burstiness=1.0, requests=16)
    values = {"base": {"rate 2": [100.0, 101.0, 99.0]}, "fast": {"rate 2": [200.0, 203.0, 197.0]}}
    made = make_load_session(store.path, values, points=[slow], loads=Loads(slo="ttft:25ms"))
    row = at(compare(store, [(made.id, None)]), "fast", "rate 2")
    assert row.ratio == pytest.approx(2.0, rel=0.01)
    assert row.goodput_of == ""
    assert row.goodput_rps == pytest.approx(row.rps)


def test_a_baseline_of_another_session_is_taken_at_the_same_point(store: Store) -> None:
    base = make_load_session(store.path, {"base": BASE})
    fast = make_load_session(store.path, {"fast": FAST}, points=[C1, C2, C4])
    comparison = compare(store, [(base.id, None), (fast.id, None)], baseline="base")
    row = at(comparison, "fast", "c2")
    assert row.ratio == pytest.approx(2.0, rel=0.005)
    assert "of another session" in row.verdict


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_keeps_to_the_width_by_leaving_out_what_is_least_asked_for(store: Store, width: int) -> None:
    comparison = compared(store, Loads(slo="tpot:14ms"))
    rows = [row for row in comparison.rows if isinstance(row, LoadRow)]
    lines = ["".join(text for text, _ in line) for line in load_lines(rows, comparison.columns, width, lambda _: "")]
    assert max(map(len, lines)) <= width
    assert "total ±95 % × ref tok/s/user" in lines[0]
    assert ("memory" in lines[0]) == (width > 80)
    assert len(lines) == 1 + 3 * (1 + 2)


def test_the_command_prints_goodput_and_says_where_bounds_say_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KASOKU_HOME", str(store.path.parent))
    loaded = make_load_session(store.path, {"base": BASE, "fast": FAST})
    plain = make_session(store.path, {"base": [100.0, 101.0, 99.0]})
    assert main(["compare", loaded.id, "--slo", "tpot:14ms"]) == 0
    told = capsys.readouterr()
    assert re.search(r"total ±95 % × ref tok/s/user +req/s goodput", told.out)
    assert re.search(r"c4: 4 in flight, 3/16 tokens\n +base +300", told.out)
    assert "c4, fast: 3.00× faster" in told.out
    assert main(["compare", plain.id, "--slo", "tpot:14ms"]) == 0
    assert "none of these sessions was measured under load" in capsys.readouterr().err
    assert main(["compare", loaded.id, "--slo", "tpot:14"]) == 2
    assert "such as ttft:200ms" in capsys.readouterr().err

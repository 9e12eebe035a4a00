"""Chosen columns and their order: one rule for the screen, the terminal and the CSV."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from sessions.export.csv_export import comparison_csv
from sessions.verdict.column_meanings import MEANINGS, meaning_of
from sessions.verdict.comparison import Comparison
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.load_row import LoadRow
from sessions.verdict.table_choice import ALL, TableChoice, known_columns
from tui.print.result_table import print_comparison

ROWS = (
    ComparisonRow("s", "b", tok_s_mean=2.0, ratio=None, flags=("x",), in_effect=True),
    ComparisonRow("s", "a", tok_s_mean=None, ratio=1.5, in_effect=False),
    ComparisonRow("s", "C", tok_s_mean=float("nan"), ratio=0.5),
    ComparisonRow("s", "d", tok_s_mean=10.0, ratio=1.0),
)


@pytest.mark.parametrize(
    ("sort", "methods"),
    [
        ("", "baCd"),
        ("tok_s_mean", "bdaC"),
        ("tok_s_mean:desc", "dbaC"),  # what is not known comes last, whichever way
        ("method", "abCd"),
        ("flags", "baCd"),
        ("in_effect:desc", "baCd"),
        ("tok_s_total", "baCd"),  # only loads have it
    ],
)
def test_rows_are_sorted_by_any_column(sort: str, methods: str) -> None:
    rows = TableChoice.of((), sort).rows_of(Comparison(ROWS))
    assert "".join(row.method for row in rows) == methods


def test_the_data_have_the_chosen_columns_in_their_order_after_whose_they_are() -> None:
    comparison = Comparison(ROWS)
    choice = TableChoice.of(["ratio", "tok_s_mean", "ratio", "tok_s_total"], "ratio")
    assert [column.key for column in choice.columns_of(comparison)] == ["session", "method", "ratio", "tok_s_mean"]
    header, *rows = csv.reader(io.StringIO(comparison_csv(comparison, choice)))
    assert header == ["session", "method", "ratio", "tok_s_mean"]
    assert [row[1] for row in rows] == ["C", "d", "a", "b"]
    under_load = Comparison((LoadRow("s", "a", point="c8", tok_s_total=9.0),))
    assert [column.key for column in TableChoice.of(["tok_s_total"], "").columns_of(under_load)] == [
        "session", "method", "point", "tok_s_total",
    ]  # fmt: skip
    assert ALL.columns_of(comparison) == comparison.columns.data


@pytest.mark.parametrize(
    ("columns", "sort", "said"),
    [
        (["tok_s_maen"], "", r"no result column 'tok_s_maen': did you mean 'tok_s_mean'\?"),
        ([], "zzz:desc", "no result column 'zzz': docs/definitions.md lists them"),
    ],
)
def test_a_column_that_there_is_not_is_a_sentence(columns: list[str], sort: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TableChoice.of(columns, sort)


def test_every_column_has_a_meaning_that_fits_a_line() -> None:
    known = known_columns()
    assert max(len(meaning_of(key)) for key in known) <= 72
    assert set(MEANINGS) <= set(known)
    assert meaning_of("ttft_s_p50_low") == "lower end of the 95 % interval of ttft_s_median"
    assert meaning_of("dnll_high_decode") == "upper end of the 95 % interval of dnll_decode"
    of = {meaning_of(key).rpartition(" ")[2] for key in known if key not in MEANINGS}
    assert of <= set(known)


@pytest.mark.parametrize("width", [20, 40, 200])
def test_columns_beyond_the_width_follow_below(width: int) -> None:
    out = io.StringIO()
    keys = ["tok_s_mean", "ratio", "ttft_s_median", "peak_vram_bytes", "flags", "missing", "tok_s_low"]
    print_comparison(Console(file=out, width=width, color_system=None), Comparison(ROWS), TableChoice.of(keys, "ratio"))
    lines = out.getvalue().splitlines()
    heads = [line for line in lines if line.startswith("method")]
    assert all(any(word in line for line in heads) for word in ("tok/s", "× ref ▲", "VRAM peak", "tok_s_low"))
    assert len(heads) == 1 if width == 200 else len(heads) > 1

"""Rows in columns as plain lines."""

from __future__ import annotations

from rich.cells import cell_len

from tui.print.plain_table import table_lines

HEAD = ("session", "model", "name")
ROWS = (("20250101-000000-abcdef", "org/a-model-of-a-long-name", "近くの公園"), ("x", "", "short"))


def test_each_column_is_as_wide_as_its_widest_cell() -> None:
    assert list(table_lines(HEAD, ROWS, None)) == [
        "session                 model                       name",
        "20250101-000000-abcdef  org/a-model-of-a-long-name  近くの公園",
        "x                                                   short",
    ]


def test_on_a_narrow_terminal_the_widest_columns_are_cut_but_not_the_first() -> None:
    for width in range(44, 70):
        lines = list(table_lines(HEAD, ROWS, width, whole=1))
        assert all(cell_len(line) <= width for line in lines), (width, lines)
        assert lines[1].startswith("20250101-000000-abcdef  org/")
    assert "…" in list(table_lines(HEAD, ROWS, 50, whole=1))[1]


def test_a_terminal_too_narrow_for_anything_still_shows_the_first_column() -> None:
    assert [line.split()[0] for line in table_lines(HEAD, ROWS, 10, whole=1)] == ["session", ROWS[0][0], "x"]


def test_a_table_of_nothing_is_its_head() -> None:
    assert list(table_lines(HEAD, (), 80)) == ["session  model  name"]

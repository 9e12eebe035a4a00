"""The end of a log: bounded, and nothing in it can move a terminal's cursor."""

from __future__ import annotations

from pathlib import Path

from methods.base.log_tail import LINE_CHARACTERS, log_tail


def test_it_is_the_last_lines_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n\n".join(f"line {number}" for number in range(100)) + "\n \n")
    assert log_tail(log) == [f"line {number}" for number in range(80, 100)]
    assert log_tail(log, 2) == ["line 98", "line 99"]


def test_control_characters_and_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\x1b[2Jred\x07\tblue \xff\r\n")
    assert log_tail(log) == ["�[2Jred�\tblue �"]


def test_a_long_log_and_a_long_line_are_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n" + b"x" * 1_000_000 + b"\nlast\n")
    assert log_tail(log) == ["x" * LINE_CHARACTERS, "last"]


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "log") == []
    assert log_tail(tmp_path) == []

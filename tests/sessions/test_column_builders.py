"""The builders of the tokens and telemetry frames' columns."""

from __future__ import annotations

import polars as pl
from polars.testing import assert_frame_equal

from sessions.disk.frame_schema import TELEMETRY, TOKENS
from sessions.disk.records import Telemetry, Tokens
from sessions.frames.column_builders import TelemetryBuilder, TokensBuilder

Row = tuple[str, str, str, float | None, int, float, str]


def tokens(method: str, request: int, index: int, times: list[int], sequence: int = 0) -> Tokens:
    ids: list[int | None] = [1000 + time for time in times]
    return Tokens(t=0, method=method, block=3, request=request, index=index, times=times, ids=ids, sequence=sequence)


def test_every_token_is_a_row_with_what_its_record_says() -> None:
    builder = TokensBuilder()
    builder.add(tokens("a", 0, 0, [5, 6, 7]), 0)
    builder.add(tokens("b", 0, 0, []), 0)
    builder.add(tokens("b", -1, 4, [8], sequence=2), 1)
    builder.add(tokens("a", 0, 3, [9, 10]), 0)
    expected = [
        ("s", "a", 3, 0, 0, 0, 0, 5, 1005),
        ("s", "a", 3, 0, 0, 0, 1, 6, 1006),
        ("s", "a", 3, 0, 0, 0, 2, 7, 1007),
        ("s", "b", 3, 1, -1, 2, 4, 8, 1008),
        ("s", "a", 3, 0, 0, 0, 3, 9, 1009),
        ("s", "a", 3, 0, 0, 0, 4, 10, 1010),
    ]
    frame = builder.take("s")
    assert frame.schema == pl.Schema(TOKENS)
    assert frame.rows() == expected


def test_every_reading_is_a_row_and_what_was_not_read_is_null() -> None:
    builder = TelemetryBuilder()
    rows: list[Row] = [
        ("gpu0", "power_w", "watt", 312.5, 10, 5.0, "ok"),
        ("gpu0", "energy_j", "joule", None, 11, 0.0, "the GPU has fallen off the bus"),
        ("host", "power_w", "watt", 0.0, 12, 1.5, "ok"),
    ]
    builder.add(Telemetry(t=10, rows=rows[:2]), 0)
    builder.add(Telemetry(t=12, rows=rows[2:]), 1)
    frame = builder.take("s")
    expected = pl.DataFrame(
        [
            ("s", t, source, metric, unit, value, cost, status, stretch)
            for (source, metric, unit, value, t, cost, status), stretch in zip(rows, (0, 0, 1), strict=True)
        ],
        schema=TELEMETRY,
        orient="row",
    )
    assert_frame_equal(frame, expected)
    assert frame["value"].null_count() == 1


def test_a_journal_without_tokens_or_readings_gives_empty_frames() -> None:
    assert_frame_equal(TokensBuilder().take("s"), pl.DataFrame(schema=TOKENS))
    assert_frame_equal(TelemetryBuilder().take("s"), pl.DataFrame(schema=TELEMETRY))


def test_an_unknown_id_is_null_beside_those_that_are_known() -> None:
    builder = TokensBuilder()
    builder.add(tokens("a", 0, 0, [5, 6]), 0)
    builder.add(Tokens(t=0, method="a", block=3, request=0, index=2, times=[7, 8, 8], ids=[None, None, 9]), 0)
    builder.add(tokens("a", 1, 0, [9]), 0)
    frame = builder.take("s")
    assert frame["token_id"].to_list() == [1005, 1006, None, None, 9, 1009]
    assert frame["t_ns"].to_list() == [5, 6, 7, 8, 8, 9]
    assert frame["index"].to_list() == [0, 1, 2, 3, 4, 0]

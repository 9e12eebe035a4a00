"""The column of speculation: how many drafted tokens a step accepted."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sessions.disk.store import Store
from sessions.frames.metrics import acceptance
from sessions.verdict.comparison import compare
from tests.verdicts.made_store import make_session
from tui.words.result_text import TEXTS


def test_it_is_null_where_nothing_is_known_of_drafts_and_0_where_none_was_right() -> None:
    rows = pl.DataFrame(
        {"decode_steps": [10, 4, None, 0], "accepted_tokens": [15, 0, None, 0]},
        schema={"decode_steps": pl.Int64, "accepted_tokens": pl.Int64},
    )
    assert rows.select(acceptance())["accepted_per_step"].to_list() == [1.5, 0.0, None, None]


def test_a_method_has_the_mean_of_its_requests(tmp_path: Path) -> None:
    made = make_session(tmp_path / "sessions", {"base": [100.0, 101.0, 99.0], "drafting": [130.0, 133.0, 128.0]})
    path = made.frame("requests")
    drafted = pl.when(pl.col("method") == "drafting").then(pl.col("request") * 0.5)
    pl.read_parquet(path).with_columns(drafted.alias("accepted_per_step")).write_parquet(path)

    base, drafting = compare(Store(tmp_path / "sessions"), [(made.id, None)]).rows

    assert base.accepted_per_step is None
    assert drafting.accepted_per_step == 1.25
    assert TEXTS["per_step"](drafting.accepted_per_step) == "1.25"

"""The fidelity frame: the journal's scores beside the reference's, and what is said where there are none."""

from __future__ import annotations

import json
import math

import msgspec
import polars as pl
import pytest

from sessions.disk.frame_schema import FIDELITY
from sessions.disk.records import ReferencePath, ReferenceScored, Scores, Unscored, Window, decoder, encode
from sessions.frames.fidelity import NO_SCORES, FidelityRows

KEY = ("quantised", 0, 0)
WINDOWS = [
    Window(ids=[1, 2, 3, 4], scored=3, stratum="text"),
    Window(ids=[5, 6, 7], scored=2, stratum="greedy"),
]
PREFILL = ReferencePath(
    nll=[[1.0, 2.0, 3.0], [0.5, 0.25]], top1=[[2, 3, 9], [6, 7]], margin=[[0.5, 0.05, 0.1], [2.0, 0.0]]
)
REFERENCE = ReferenceScored(t=0, windows=WINDOWS, prefill=PREFILL, decode=PREFILL)


def scores(window: int, nll: list[float | None], top1: list[int | None], path: str = "prefill") -> Scores:
    return Scores(t=1, method="quantised", block=0, path=path, window=window, nll=nll, top1=top1)


def frame_of(*records: Scores | Unscored, reference: ReferenceScored | None = REFERENCE) -> pl.DataFrame:
    rows = FidelityRows()
    rows.reference = reference
    for record in records:
        rows.add(record, KEY)
    return rows.frame("s", [KEY])


def test_a_window_is_summed_and_counted_beside_the_reference() -> None:
    frame = frame_of(scores(0, [1.5, 2.0, 2.75], [2, 4, 8]), scores(1, [0.5, 0.25], [6, 8]))
    assert dict(frame.schema) == dict(pl.Schema(FIDELITY))
    first, second = frame.filter(pl.col("window").is_not_null()).to_dicts()
    assert (first["stratum"], second["stratum"]) == ("text", "greedy")
    assert (first["tokens"], first["nll"], first["nll_reference"]) == (3, 6.25, 6.0)
    assert (first["top1_equal"], first["top1_equal_clear"], first["clear_tokens"]) == (1, 1, 2)
    assert (first["worst"], first["non_finite"]) == (0.5, 0)
    assert first["nll_each"] == [1.5, 2.0, 2.75]
    assert first["nll_reference_each"] == [1.0, 2.0, 3.0]
    assert (second["top1_equal"], second["top1_equal_clear"], second["clear_tokens"]) == (1, 1, 1)


def test_scores_that_are_not_finite_are_counted_and_leave_no_sum() -> None:
    row = frame_of(scores(0, [1.0, None, 3.0], [2, None, 9])).row(0, named=True)
    assert (row["nll"], row["worst"], row["non_finite"]) == (None, None, 1)
    assert "1 of its 3 scores are not finite" in json.loads(row["missing"])["nll"]


def test_a_path_without_scores_has_a_row_that_says_why() -> None:
    said = Unscored(t=1, method="quantised", block=0, path="decode", reason="The engine cannot force an id.")
    frame = frame_of(scores(0, [1.0, 2.0, 3.0], [2, 3, 9]), said)
    [decode] = frame.filter(pl.col("path") == "decode").to_dicts()
    assert decode["window"] is None
    assert json.loads(decode["missing"])["nll"] == said.reason


def test_a_method_without_any_scores_says_why_on_both_paths() -> None:
    for reference, reason in (
        (msgspec.structs.replace(REFERENCE, windows=[], prefill=None, decode=None, reason="No tokeniser."), "No tok"),
        (REFERENCE, NO_SCORES),
    ):
        frame = frame_of(reference=reference)
        assert frame["path"].to_list() == ["prefill", "decode"]
        assert all(json.loads(missing)["nll"].startswith(reason) for missing in frame["missing"])
    assert frame_of(reference=None).is_empty(), "a session that was not asked for fidelity"


def test_a_reference_survives_its_journal_and_one_of_other_windows_is_no_record() -> None:
    assert decoder().decode(encode(REFERENCE)) == REFERENCE
    line = encode(REFERENCE).replace(msgspec.json.encode(PREFILL.nll), b"[[1.0,2.0],[0.5,0.25]]", 1)
    with pytest.raises(msgspec.DecodeError):
        decoder().decode(line)


def test_scores_of_a_window_that_is_not_the_sessions_are_no_figures() -> None:
    row = frame_of(scores(7, [1.0], [2])).row(0, named=True)
    assert row["nll_reference"] is None
    assert math.isclose(row["nll"], 1.0)
    short = frame_of(scores(0, [1.0], [2])).row(0, named=True)
    assert short["nll"] is None
    assert "scored 1 ids" in json.loads(short["missing"])["nll"]

"""CSV as spreadsheets read it: a byte order mark for Excel, no NULs, and a notice of what a sheet cannot hold."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.export import csv_export
from sessions.export.csv_export import ExportError, export_session, write_comparison_csv
from sessions.verdict.comparison import compare
from tests.verdicts.made_store import make_session

TEXT = '今日は\0, "said" it\r\nand more'
WRITTEN = TEXT.replace("\0", "\N{SYMBOL FOR NULL}")
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    """A session whose requests all said TEXT."""
    made = make_session(tmp_path / "sessions", {"one": [10.0]})
    path = made.frame("requests")
    frame, metadata = pl.read_parquet(path), pl.read_parquet_metadata(path)
    kept = {key: value for key, value in metadata.items() if not key.startswith("ARROW")}
    frame.with_columns(pl.lit(TEXT).alias("text")).write_parquet(path, metadata=kept)
    return made


def texts(path: Path, encoding: str) -> list[str]:
    with path.open(encoding=encoding, newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def test_texts_come_whole_and_without_nuls(folder: SessionFolder, tmp_path: Path) -> None:
    written = export_session(folder, tmp_path / "out")
    requests = tmp_path / "out" / "requests.csv"
    assert requests in [frame.path for frame in written]
    assert not any(frame.notice for frame in written)
    assert b"\0" not in requests.read_bytes()
    assert not requests.read_bytes().startswith(BOM)
    assert set(texts(requests, "utf-8")) == {WRITTEN}


def test_a_byte_order_mark_comes_first_on_request_and_readers_take_it(folder: SessionFolder, tmp_path: Path) -> None:
    for frame in export_session(folder, tmp_path / "out", excel=True):
        assert frame.path.read_bytes().startswith(BOM)
        assert pl.read_csv(frame.path, infer_schema=False).columns[0] == "session"
    assert set(texts(tmp_path / "out" / "requests.csv", "utf-8-sig")) == {WRITTEN}
    comparison = compare(Store(folder.path.parent), [(folder.id, None)])
    assert write_comparison_csv(comparison, tmp_path / "x.csv", excel=True).read_bytes().startswith(BOM)


def test_what_a_sheet_cannot_hold_is_said(
    folder: SessionFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = len(pl.read_parquet(folder.frame("tokens")))
    monkeypatch.setattr(csv_export, "SHEET_ROWS", rows)
    notices = {frame.path.name: frame.notice for frame in export_session(folder, tmp_path / "out")}
    assert f"{rows:,} rows" in notices["tokens.csv"]
    assert notices["runs.csv"] == ""
    monkeypatch.setattr(csv_export, "SHEET_ROWS", rows + 1)
    monkeypatch.setattr(csv_export, "CELL_CHARACTERS", len(TEXT) - 1)
    notices = {frame.path.name: frame.notice for frame in export_session(folder, tmp_path / "out")}
    assert notices["tokens.csv"] == ""
    assert f"a text of {len(TEXT)} characters" in notices["requests.csv"]


def test_a_folder_that_cannot_be_made_is_a_sentence(folder: SessionFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, why in (("file", "file exists"), ("x" * 300, "too long"), ("nul\0", "not a path")):
        with pytest.raises(ExportError, match=why):
            export_session(folder, tmp_path / out)

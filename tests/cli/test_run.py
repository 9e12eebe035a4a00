"""`kasoku run` and what looks at its sessions: texts, exit codes, JSON and CSV, as a process without a terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sessions.disk.records import BlockEnded, Tokens
from sessions.disk.session_folder import FRAMES, SessionFolder
from sessions.disk.store import Store
from sessions.run.launch import missing
from tests.sessions.conftest import opened
from tests.sessions.processes import until
from tests.sessions.workplace import (
    KASOKU,
    Said,
    Workplace,
    assert_nothing_left,
    make_model,
    records_of,
    runs_of,
)
from tui.words import figures

FORMULA = "=1+1"
WORDS = [FORMULA, "@SUM(A1)", "-2", "+3", *(f"word{number}" for number in range(60))]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("run")):
        make_model(work.model, WORDS)
        yield work


@pytest.fixture(scope="module")
def ran(work: Workplace) -> Said:
    """A whole `kasoku run` of two methods in three blocks, as a process."""
    work.method("one", rate=200.0)
    work.method("two", reference="one", rate=400.0)
    return work.kasoku(*work.options("one", "two", requests=6, blocks=3, warmup=1, prompt_tokens=4, max_new_tokens=16))


@pytest.fixture(scope="module")
def folder(work: Workplace, ran: Said) -> SessionFolder:
    return work.sessions()[0]


def test_run_tells_its_progress_its_table_and_where_it_is_saved(ran: Said, folder: SessionFolder) -> None:
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    for line in (
        "environments: 2 of 2 methods can run here",
        "prompt: 4 tokens",
        "two: 3 of 3 blocks done, ",
        f"Saved as {folder.id} in {folder.path}",
        f"CSV: {folder.path / 'comparison.csv'}",
    ):
        assert line in ran.out
    assert re.search(r"^one: [1-3] of 3 blocks done, ", ran.out, re.MULTILINE)


def test_its_table_has_the_rates_and_the_ratio_of_the_tokens_times(
    work: Workplace, ran: Said, folder: SessionFolder
) -> None:
    key = ["method", "block", "request"]
    times = pl.read_parquet(folder.frame("tokens")).group_by(key).agg(pl.len().alias("tokens"), pl.col("t_ns").max())
    timed = pl.read_parquet(folder.frame("requests")).filter(~pl.col("warmup")).join(times, on=key)
    rates = timed.select(*key, rate=pl.col("tokens") / (pl.col("t_ns") - pl.col("start_ns")) * 1e9)
    of_blocks = rates.group_by("method", "block").agg(pl.col("rate").mean()).sort("block")
    one, two = (of_blocks.filter(pl.col("method") == name)["rate"].to_numpy() for name in ("one", "two"))
    assert (len(one), len(two)) == (3, 3)
    assert (one.max() < 200, two.max() < 400) == (True, True), "each token comes when it is due or later"
    table = {row.split()[0]: row.split() for row in ran.out.splitlines() if row.startswith(("one ", "two "))}
    assert (table["one"][1], table["two"][1]) == (figures.rate(one.mean()), figures.rate(two.mean()))
    ratio = figures.ratio(math.exp(np.log(two / one).mean()))
    assert table["two"][3] == ratio
    compared = json.loads(work.command("compare", folder.id, "--json").out)
    (verdict,) = [row["verdict"] for row in compared if row["method"] == "two"]
    assert re.search(rf"^two: {re.escape(verdict)}(;|$)", ran.out, re.MULTILINE), ran.out
    assert verdict.startswith((f"{ratio}× faster", "too few blocks to say")), "the second where the machine was busy"


def test_the_csv_says_what_compare_says_as_json(work: Workplace, folder: SessionFolder) -> None:
    said = work.command("compare", folder.id, "--json")
    assert (said.code, said.err) == (0, "")
    rows = json.loads(said.out)
    with (folder.path / "comparison.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["method"] for cell in cells] == [row["method"] for row in rows] == ["one", "two"]
    compared = 0
    for row, cell in zip(rows, cells, strict=True):
        assert list(cell) == list(row)
        for name, value in row.items():
            if isinstance(value, bool):
                assert cell[name] == str(value).lower()
            elif isinstance(value, int | float):
                assert math.isclose(float(cell[name]), value, rel_tol=1e-12), name
                compared += 1
            elif value is None:
                assert cell[name] == ""
    assert compared > 20
    requests = pl.read_parquet(folder.frame("requests")).filter(~pl.col("warmup"))
    for row in rows:
        own = requests.filter(pl.col("method") == row["method"])["e2e_tok_s"]
        assert math.isclose(row["tok_s_mean"], float(own.mean()), rel_tol=1e-9)  # type: ignore[arg-type]
        assert row["requests"] == len(own) == 6


def test_show_and_sessions_know_it(work: Workplace, folder: SessionFolder) -> None:
    said = work.command("show", "last")
    assert said.code == 0
    assert f"{folder.id} finished" in said.out
    assert "6 requests a method in 3 blocks, 1 warm-ups each" in said.out
    shown = json.loads(work.command("show", folder.id, "--json").out)
    assert (shown["session"]["id"], len(shown["runs"]), len(shown["comparison"])) == (folder.id, 6, 2)
    listed = json.loads(work.command("sessions", "--json").out)
    best = max(shown["comparison"], key=lambda row: float(row["tok_s_mean"]))
    row = next(row for row in listed if row["id"] == folder.id)
    assert row["best"] == best["method"]
    assert math.isclose(row["best_tok_s"], best["tok_s_mean"], rel_tol=1e-12)
    told = re.escape(f"{best['method']} {figures.rate(best['tok_s_mean'])}")
    assert re.search(rf"{folder.id} .* finished .*{told}", work.command("sessions").out)


def test_a_session_is_found_by_parts_of_its_id_and_by_its_name(work: Workplace, folder: SessionFolder) -> None:
    Store(work.home / "sessions").relabel(folder.id, name="first of all")
    for name in (folder.id, folder.id[-6:], "first of all"):
        assert f"{folder.id} finished" in work.command("show", name).out


def test_export_writes_the_frames_with_formulas_defused(work: Workplace, folder: SessionFolder, tmp_path: Path) -> None:
    said = work.command("export", folder.id, "--out", str(tmp_path / "out"))
    assert (said.code, said.err) == (0, "")
    assert said.out.split() == [str(tmp_path / "out" / f"{n}.csv") for n in FRAMES]
    for name in FRAMES:
        frame = pl.read_parquet(folder.frame(name))
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        assert len(rows) == len(frame)
        assert reader.fieldnames == frame.columns
        texts = [column for column, kind in frame.schema.items() if kind == pl.String]
        assert not [row[c] for row in rows for c in texts if row[c].startswith(("=", "+", "-", "@", "\t", "\r"))]
    requests = pl.read_parquet(folder.frame("requests"))
    formulas = [text for text in requests["text"].to_list() if text.startswith(("=", "@", "-", "+"))]
    assert formulas, "a text that a spreadsheet would run: this test shows nothing"
    with (tmp_path / "out" / "requests.csv").open(newline="") as file:
        exported = [row["text"] for row in csv.DictReader(file)]
    assert [f"'{text}" if text in formulas else text for text in requests["text"].to_list()] == exported


def test_replay_plays_it_to_the_end(work: Workplace, folder: SessionFolder) -> None:
    said = work.kasoku("replay", folder.id, "--speed", "50")
    assert (said.code, said.err) == (0, "")
    assert "two: 3 of 3 blocks done" in said.out
    assert f"Saved as {folder.id}" in said.out


def test_attach_to_an_ended_session_shows_its_table(work: Workplace, folder: SessionFolder) -> None:
    said = work.command("attach", folder.id)
    assert said.code == 0
    assert "two: 3 of 3 blocks done" in said.out


def test_resume_of_a_finished_session_says_that_nothing_is_missing(work: Workplace, folder: SessionFolder) -> None:
    before = folder.journal.read_bytes()
    said = work.command("resume", folder.id)
    assert (said.code, said.err) == (0, f"{folder.id} is complete: every block has run to its end.\n")
    assert folder.journal.read_bytes() == before


def test_json_is_one_document_and_nothing_else_and_a_prompt_comes_from_standard_input(
    work: Workplace, ran: Said
) -> None:
    options = work.options("one", prompt_tokens=None, prompt="-")
    said = work.kasoku(*options, "--json", stdin="word1 word2 word3\n")
    document = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert (document["status"], document["error"]) == ("finished", "")
    assert [row["method"] for row in document["comparison"]] == ["one"]
    assert Path(document["folder"]).name == document["session"]
    assert prompt_of(SessionFolder(Path(document["folder"]))) == (3, "word4")


def prompt_of(folder: SessionFolder) -> tuple[int, str]:
    """How long the prompt of a session's only request was, and the first word of the response."""
    (row,) = pl.read_parquet(folder.frame("requests")).to_dicts()
    return row["prompt_tokens"], row["text"].split()[0]


@pytest.mark.parametrize("command", [["sessions"], ["methods"], ["env", "list"], ["models", "list"]])
def test_listings_as_json_are_one_document(work: Workplace, ran: Said, command: list[str]) -> None:
    said = work.command(*command, "--json")
    assert isinstance(json.loads(said.out), list)
    assert (said.code, said.err) == (0, "")


def test_a_method_that_was_named_and_fails_makes_exit_code_1_and_its_row_says_why(work: Workplace) -> None:
    work.method("breaks", fault="exception")
    said = work.command(*work.options("breaks", "one"))
    assert said.code == 1
    assert re.search(r"breaks: failed; .*ValueError: scripted failure", said.out)
    assert "one: the reference" in said.out


def test_a_method_that_only_a_preset_chose_and_that_cannot_run_is_a_row_and_no_error(work: Workplace) -> None:
    for name, environment in (("ready", "plain"), ("not-ready", "nowhere")):
        work.method(name, environment=environment, presets=["quick"])
    options = [option for option in work.options("x") if option not in ("--method", "x")]
    said = work.command(*options)
    assert said.code == 0, said.err
    rows = {row["method"]: row for row in runs_of(work.sessions()[-1])}
    assert rows["ready"]["status"] == "ok"
    assert rows["not-ready"]["status"] == "unavailable"
    assert re.search(r"not-ready: unavailable; .*nowhere", said.out)
    assert {row["status"] for name, row in rows.items() if name != "ready"} == {"unavailable"}
    said = work.command(*work.options("not-ready"))
    assert said.code == 1, "by name it is an error"


def test_detach_returns_at_once_attach_follows_and_stop_stops(work: Workplace) -> None:
    work.method("slow", rate=20.0)
    said = work.kasoku(*work.options("slow", max_new_tokens=1_000), "--detach")
    folder = work.sessions()[-1]
    assert (said.code, said.out) == (0, f"{folder.id}\n")
    assert f"`kasoku attach {folder.id}`" in said.err
    assert folder.is_live()
    viewers = [
        subprocess.Popen([str(KASOKU), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for arguments in (["attach"], ["attach", folder.id])
    ]
    until(lambda: any(isinstance(record, Tokens) for record in records_of(folder)), "it measures")
    for viewer in viewers:
        assert viewer.stdout is not None
        assert viewer.stdout.readline() != "", "it follows"
    stopped = work.command("stop")
    assert (stopped.code, stopped.out) == (0, f"{folder.id} is stopped; what was measured is saved.\n")
    for viewer in viewers:
        out, err = viewer.communicate(timeout=30)
        assert (viewer.returncode, err) == (130, "")
        assert f"Saved as {folder.id}" in out
        assert "Stopped by request" in out
    assert [row["status"] for row in runs_of(folder)] == ["stopped"]
    assert len(pl.read_parquet(folder.frame("tokens"))) > 0
    assert_nothing_left(folder)


def test_the_second_run_tells_who_has_the_device(work: Workplace) -> None:
    work.method("one")
    work.method("slow", rate=20.0)
    work.kasoku(*work.options("slow", max_new_tokens=1_000), "--detach")
    first = work.sessions()[-1]
    until(lambda: any(isinstance(record, Tokens) for record in records_of(first)), "the first one measures")
    second = subprocess.Popen(
        [str(KASOKU), *work.options("one")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert second.stdout is not None
    line = second.stdout.readline()
    assert line == f"device: waiting for session {first.id}, which is measuring on this device\n"
    assert work.command("stop", first.id).code == 0
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "")
    assert "Saved as" in out


def test_a_resume_runs_what_is_missing_and_ends_with_the_whole_table(work: Workplace, tmp_path: Path) -> None:
    work.method("twice", fault="exception", once=str(tmp_path / "once"))
    said = work.command(*work.options("twice", "one", blocks=2, requests=2))
    folder = work.sessions()[-1]
    assert said.code == 1
    assert missing(folder) == [("twice", 0)]
    said = work.command("resume", folder.id)
    assert (said.code, said.err) == (0, "")
    assert "twice: 2 of 2 blocks done" in said.out
    assert sum(isinstance(record, BlockEnded) for record in records_of(folder)) == 5


def test_a_prompt_comes_from_a_file(work: Workplace, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("word1 word2 word3\n")
    said = work.command(*work.options("one", prompt_tokens=None, prompt=f"@{tmp_path / 'prompt'}"))
    assert said.code == 0, said.err
    assert prompt_of(work.sessions()[-1]) == (3, "word4")


def test_a_reader_that_has_seen_enough_is_no_error(work: Workplace, folder: SessionFolder) -> None:
    show = subprocess.Popen([str(KASOKU), "show", folder.id], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert show.stdout is not None
    assert show.stderr is not None
    show.stdout.close()
    assert show.stderr.read() == b""
    assert show.wait(30) == 0


def test_a_session_whose_conductor_cannot_start_is_interrupted_with_what_to_do(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within this process, so that the conductor's Python can be one that ends at once."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    said = work.command(*work.options("one"))
    folder = work.sessions()[-1]
    assert (said.code, folder.read().status) == (130, "interrupted")
    assert f"`kasoku resume {folder.id}` runs the missing blocks" in " ".join(said.out.split())


def test_compare_writes_its_csv_where_it_is_told(work: Workplace, folder: SessionFolder) -> None:
    said = work.command("compare", folder.id, "--json")
    rows: list[dict[str, Any]] = json.loads(said.out)
    path = folder.path.parent / "x.csv"
    assert work.command("compare", folder.id, "--csv", str(path)).err == f"Written to {path}\n"
    assert len(list(csv.DictReader(io.StringIO(path.read_text())))) == len(rows)
    path.unlink()

"""One real measurement: the default model, two methods, from the command line to the CSV."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from methods.models.models import Model
from methods.text.tokeniser import Tokeniser
from sessions.disk.records import Tokens
from sessions.disk.session_folder import SessionFolder
from tests.cli.test_import_hygiene import ENGINES, mapped
from tests.sessions.processes import until
from tests.sessions.workplace import KASOKU, assert_nothing_left, conductor_of, records_of, runner_of

pytestmark = pytest.mark.model
PROMPT = "The capital of France is"
OPTIONS = ["--method", "baseline", "--method", "flash-attention-2", "--requests", "2", "--blocks", "1", "--warmup", "1"]
LENGTH = 12


def kasoku(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(KASOKU), *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_two_methods_on_the_real_model_from_the_command_line_to_the_csv(home: Path, default_model: Model) -> None:
    viewer = subprocess.Popen(
        [str(KASOKU), "run", *OPTIONS, "--prompt", PROMPT, "--raw", "--max-new-tokens", str(LENGTH), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    sessions = home / "sessions"
    path = until(lambda: next(iter(sessions.iterdir()), None) if sessions.is_dir() else None, "there is a session")
    folder = SessionFolder(path)
    until(lambda: any(isinstance(record, Tokens) for record in records_of(folder)), "tokens flow", 120)
    conductor, runner = conductor_of(folder), runner_of(folder)
    assert runner is not None
    assert "torch" in mapped(runner.pid)
    assert f"{sys.prefix}/lib" not in Path(f"/proc/{runner.pid}/maps").read_text(), "nothing of the workbench's Python"
    assert not mapped(conductor.pid) & ENGINES
    out, err = viewer.communicate(timeout=300)
    assert (viewer.returncode, err) == (0, ""), out
    assert_nothing_left(folder)

    runs = pl.read_parquet(folder.frame("runs")).to_dicts()
    assert [(row["method"], row["block"]) for row in runs] == [(r.method, r.block) for r in folder.plan().order()]
    for row in runs:
        assert (row["status"], row["error"], row["in_effect"]) == ("ok", "", True), row
        assert (row["dtype"], row["weights_digest"]) == ("bfloat16", default_model.weights_digest)
        assert row["load_s"] > 0
        assert row["peak_rss_bytes"] > 100_000_000
        ops = json.loads(row["evidence"])["attention_ops"]
        assert any("flash" in op for op in ops) is (row["method"] == "flash-attention-2")

    requests = pl.read_parquet(folder.frame("requests"))
    tokens = pl.read_parquet(folder.frame("tokens"))
    tokeniser = Tokeniser(default_model.folder)
    assert len(requests) == 2 * (1 + 2)
    assert set(requests["output_tokens"]) == {LENGTH}
    for row in requests.to_dicts():
        own = tokens.filter(*(pl.col(name) == row[name] for name in ("method", "block", "attempt", "request")))
        assert row["text"] == tokeniser.decode(own["token_id"].to_list())
        assert "Paris" in row["text"], "the model really answered"
        assert row["prompt_tokens"] == len(tokeniser.encode(PROMPT))
        assert row["ttft_s"] < row["e2e_s"]

    rows = json.loads(kasoku("compare", folder.id, "--json").stdout)
    with (folder.path / "comparison.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["method"] for cell in cells] == [row["method"] for row in rows] == ["baseline", "flash-attention-2"]
    for row, cell in zip(rows, cells, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert math.isclose(float(cell[name]), value, rel_tol=1e-12), name
        assert (cell["in_effect"], int(cell["requests"]), int(cell["blocks"])) == ("true", 2, 1)
        timed = requests.filter(pl.col("method") == row["method"], ~pl.col("warmup"))["e2e_tok_s"].to_list()
        assert math.isclose(row["tok_s_mean"], sum(timed) / len(timed), rel_tol=1e-9)
    assert f"CSV: {folder.path / 'comparison.csv'}" in out
    for method in ("baseline", "flash-attention-2"):
        assert f"{method}: 1 of 1 blocks done" in out

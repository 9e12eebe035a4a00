"""A field that a message gains is in the journal and in its frame without being named anywhere else.

Kasoku is copied, the field is declared in the copy's message and schema, and what fills it is written: nothing else.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import kasoku
from sessions.disk.session_folder import SessionFolder
from tests.sessions.processes import DEADLINE_S
from tests.sessions.workplace import Workplace

MESSAGES, SCHEMA = "sessions/disk/messages.py", "sessions/disk/frame_schema.py"
MEASURE = "methods/runner/kasoku_measure.py"
PEAK, OUTPUT = "    peak_rss_bytes: Int64 | None = None\n", "    output_tokens: Int64\n"
PEAK_COLUMN, OUTPUT_COLUMN = '    "peak_rss_bytes": pl.Int64,\n', '    "output_tokens": pl.Int64,\n'
ADDED = [  # file, the line that it comes after, the line
    (MESSAGES, PEAK, "    pinned_bytes: Int64 | None = None\n"),
    (SCHEMA, PEAK_COLUMN, '    "pinned_bytes": pl.Int64,\n'),
    (MESSAGES, OUTPUT, "    preemptions: Int64 | None = None\n"),
    (SCHEMA, OUTPUT_COLUMN, '    "preemptions": pl.Int64,\n'),
    (MEASURE, "                finish=finish,\n", "                preemptions=request.number + 3,\n"),
]
ENGINE = """
from kasoku_engine import Engine

class Pinning(Engine):
    def load(self, job):
        return {"weights_bytes": 0, "dtype": job["dtype"], "device": "cpu", "threads": 1}

    def generate(self, request, emit):
        for number in range(request.max_new_tokens):
            emit([number])
        return "length"

    def evidence(self):
        return {"cache": "dynamic"}

    def memory(self):
        return {**super().memory(), "pinned_bytes": 4096}

ENGINE = Pinning
"""
METHOD = """
[methods.pinning]
summary = "Says one thing more of its memory."
engine = "./pinning.py"
environments = { cpu = "plain" }
must_show = { cache = "dynamic" }
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The entry point of a Kasoku in which ADDED is added."""
    root, folder = Path(kasoku.__file__).parent, tmp_path / "copy"
    for room in kasoku.ROOMS:
        shutil.copytree(root / room, folder / room)
    for name, before, line in ADDED:
        file = folder / name
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1
        file.write_text(text.replace(before, before + line), encoding="utf-8")
    return Path(shutil.copy(root / "kasoku.py", folder))


@pytest.fixture
def folder(copy: Path, work: Workplace) -> SessionFolder:
    """A session of the copy: an engine that fills the new field of `memory`, and one that knows nothing of it."""
    work.method("one")
    (work.config / "methods" / "pinning.py").write_text(ENGINE)
    (work.config / "methods" / "pinning.toml").write_text(METHOD)
    command = [sys.executable, str(copy), "tui.command_line", *work.options("pinning", "one", requests=2)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = work.sessions()
    return folder


def test_a_field_that_a_message_gains_is_in_the_journal_and_in_its_frame(folder: SessionFolder) -> None:
    lines = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    said = {line["method"]: line.get("pinned_bytes") for line in lines if line["k"] == "memory"}
    assert said == {"pinning": 4096, "one": None}
    assert [line["preemptions"] for line in lines if line["k"] == "request_end" and line["method"] == "one"] == [3, 4]

    runs = {row["method"]: row for row in pl.read_parquet(folder.frame("runs")).to_dicts()}
    assert {method: row["pinned_bytes"] for method, row in runs.items()} == said
    assert "pinned_bytes" not in json.loads(runs["pinning"]["missing"])
    assert json.loads(runs["one"]["missing"])["pinned_bytes"] == "the engine does not say"
    requests = pl.read_parquet(folder.frame("requests")).sort("method", "request")
    assert requests["preemptions"].to_list() == [3, 4, 3, 4]

"""`kasoku show SESSION --as article`: the article's tables, of any session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probes.machine import Machine
from sessions.export.article import ARTICLE_TOKENS
from tests.sessions.workplace import Workplace
from tests.verdicts.made_store import make_session


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KASOKU_HOME", str(tmp_path))
    return tmp_path


def test_the_tables_are_printed_for_a_session_of_any_preset(home: Path) -> None:
    folder = make_session(
        home / "sessions",
        {"none": [50.0, 50.0, 50.0], "compiled": [100.0, 100.0, 100.0]},
        machine=Machine(cpu_model="AMD EPYC 9654"),
        run={"compiled": {"in_effect": False, "in_effect_reason": "no frame was compiled"}},
    )
    said = Workplace.command("show", folder.id, "--as", "article")
    assert (said.code, said.err) == (0, "")
    lines = [line.split() for line in said.out.splitlines()]
    assert ["1", "none", "50.00"] in lines
    assert ["2", "compiled", "100.00"] in lines
    assert "AMD EPYC 9654" in said.out
    assert f"319 characters are {ARTICLE_TOKENS} tokens" in said.out
    assert "compiled generates them in 1.87 s: 32.09 times as fast as a person speaks them (60 s)." in said.out
    assert "compiled: not in effect: no frame was compiled" in " ".join(said.out.split())


def test_as_json_it_is_one_document(home: Path) -> None:
    folder = make_session(home / "sessions", {"none": [50.0, 50.0, 50.0]})
    said = Workplace.command("show", "last", "--as", "article", "--json")
    document = json.loads(said.out)
    assert (document["session"], document["tool"]) == (folder.id, "article")
    assert document["methods"] == [["none", pytest.approx(50.0)]]
    assert document["closing"]["tokens"] == ARTICLE_TOKENS
    assert document["closing"]["rows"] == [["none", pytest.approx(3.74), pytest.approx(60 / 3.74)]]


def test_what_cannot_be_quoted_is_one_line(home: Path) -> None:
    folder = make_session(home / "sessions", {"none": [50.0]}, run={"none": {"status": "failed", "error": "boom"}})
    said = Workplace.command("show", folder.id, "--as", "article")
    assert (said.code, said.out) == (2, "")
    assert "nothing to report" in said.err
    unknown = Workplace.command("show", folder.id, "--as", "pytest")
    assert unknown.code == 2
    assert unknown.err.endswith(
        "use one of vllm, guidellm, aiperf, genai-bench, llama-bench, optimum-benchmark, article.\n"
    )

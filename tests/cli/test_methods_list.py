"""`kasoku methods`: the methods under the headings of their groups, and what a missing environment would take."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from methods.base.home import private_folder
from tui.commands.catalogue import methods


@pytest.fixture(autouse=True)
def bare_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASOKU_HOME", str(private_folder(tmp_path / "home")))
    monkeypatch.setenv("KASOKU_CONFIG", str(private_folder(tmp_path / "config")))


def test_each_group_has_one_heading_and_its_methods_under_it(capsys: pytest.CaptureFixture[str]) -> None:
    methods(argparse.Namespace(json=False))
    lines = capsys.readouterr().out.splitlines()
    headings = [line for line in lines if line.endswith(":") and " " not in line]

    assert headings == ["transformers:", "engines:", "speculative:", "quantised:", "servers:", "article:"]
    under = lines[lines.index("engines:") : lines.index("quantised:")]
    assert any(line.startswith("openvino ") for line in under)
    assert any("Making it takes 0.2 GB and some 10 seconds." in line for line in under)


def test_a_row_names_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    methods(argparse.Namespace(json=True))
    rows = {row["method"]: row["group"] for row in json.loads(capsys.readouterr().out)}

    assert (rows["baseline"], rows["vllm"], rows["article-vllm"]) == ("transformers", "engines", "article")

"""docs/adding-a-method.md done word for word: its files put into a config folder, its commands run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace, assert_nothing_left, runs_of

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
FILES: dict[str, str] = dict(re.findall(r"^`([\w.-]+/[\w.-]+)`[^`]*?```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A home whose config folder has the page's files, and in which the page's commands have been run."""
    for work in opened(tmp_path_factory.mktemp("page")):
        for name, text in FILES.items():
            file = work.config / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        yield work


def countdown_as(name: str, environment: str = "numbers") -> str:
    """The page's method under another name and in another environment."""
    text = FILES["methods/countdown.toml"].replace("[methods.countdown]", f"[methods.{name}]")
    return text.replace('"numbers"', f'"{environment}"')


def test_the_page_has_an_environment_an_engine_and_two_methods() -> None:
    assert set(FILES) == {
        "environments/numbers.toml",
        "methods/anything.toml",
        "methods/countdown.py",
        "methods/countdown.toml",
    }
    assert [command.split()[:3] for command in COMMANDS] == [
        ["kasoku", "env", "create"],
        ["kasoku", "methods"],
        ["kasoku", "run", "--method"],
        ["kasoku", "run", "--method"],
    ]


@pytest.mark.timeout(300)
def test_its_commands_create_list_and_measure(work: Workplace) -> None:
    create, methods, run, load = (shlex.split(command)[1:] for command in COMMANDS)

    created = work.kasoku(*create, timeout=240)
    assert created.code == 0, created.err
    listed = json.loads(work.kasoku(*methods, "--json").out)
    assert {"countdown", "static-cache"} <= {row["method"] for row in listed}
    # the page leaves the model to the default, which need not be fetched to see an engine count
    ran = work.kasoku(*run, "--model", str(work.model), "--prompt-tokens", "4")

    assert ran.code == 0, ran.err
    session = work.sessions()[-1]
    (row,) = runs_of(session)
    assert (row["method"], row["status"], row["in_effect"]) == ("countdown", "ok", True)
    assert row["environment"] == "numbers"
    assert_nothing_left(session)
    ran = work.kasoku(*load, "--model", str(work.model), "--prompt-tokens", "4")
    assert ran.code == 0, ran.err
    assert [(row["point"], row["status"]) for row in runs_of(work.sessions()[-1])] == [("c1", "ok"), ("c4", "ok")]


@pytest.mark.timeout(300)
def test_an_environment_with_a_package_deleted_is_a_row_that_says_so(work: Workplace) -> None:
    assert work.kasoku("env", "create", "numbers", timeout=240).code == 0
    (package,) = (work.home / "environments").glob("numbers-*/lib/python3*/site-packages/numpy")
    aside = package.rename(package.with_name("numpy-deleted"))
    try:
        ran = work.run("countdown")
    finally:
        aside.rename(package)

    (row,) = runs_of(ran)
    assert row["status"] == "failed"
    assert row["error"] == (
        "The method's environment is broken (No module named 'numpy'): "
        "remove it with `kasoku env remove` and create it again."
    )
    assert_nothing_left(ran)


@pytest.mark.timeout(300)
def test_an_environment_half_made_counts_as_none_and_is_made_when_asked(work: Workplace) -> None:
    # with a package that kasoku's own Python lacks, or that would be taken
    (work.config / "environments" / "half.toml").write_text(
        '[half]\npython = ">=3.10"\nrequirements = ["numpy", "more-itertools"]\nimports = ["numpy", "more_itertools"]\n'
    )
    (work.config / "methods" / "half.toml").write_text(countdown_as("half", environment="half"))
    assert work.kasoku("env", "create", "half", timeout=240).code == 0
    (manifest,) = (work.home / "environments").glob("half-*/kasoku-environment.json")
    manifest.unlink()

    (row,) = runs_of(work.run("half"))
    assert row["status"] == "unavailable"
    assert "There is no environment half yet" in row["error"]
    assert "`kasoku env create half`" in row["error"]
    (row,) = runs_of(work.run("half", create_environments=True))
    assert row["status"] == "ok"


@pytest.mark.timeout(300)
def test_without_a_network_creating_is_a_sentence_and_the_method_a_row(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.config / "environments" / "far.toml").write_text(
        '[far]\npython = ">=3.10"\nrequirements = ["numpy==2.0.1"]\nimports = ["numpy"]\n'
    )
    (work.config / "methods" / "far.toml").write_text(countdown_as("far", environment="far"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("UV_FIND_LINKS", "")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    created = work.kasoku("env", "create", "far", timeout=240)
    (row,) = runs_of(work.run("far", create_environments=True))

    assert created.code == 1
    assert "uv could not install the environment far: " in created.err
    assert "Traceback" not in created.err
    assert row["status"] == "unavailable"
    assert "uv could not install the environment far: " in row["error"]
    assert not list((work.home / "environments").glob("far-*"))


def test_too_little_memory_is_a_row_and_the_next_method_runs(work: Workplace) -> None:
    (work.config / "methods" / "huge.toml").write_text(
        countdown_as("huge") + "needs = { free_bytes = 1_000_000_000_000_000 }\n"
    )

    rows = {row["method"]: row for row in runs_of(work.run("huge", "countdown", create_environments=True))}

    assert rows["huge"]["status"] == "unavailable"
    assert "It needs 1000000.0 GB of free memory; this CPU has " in rows["huge"]["error"]
    assert rows["countdown"]["status"] == "ok"


def test_a_gpu_that_is_not_there_is_refused_before_any_session(work: Workplace) -> None:
    before = len(work.sessions())
    said = work.kasoku("run", "--method", "countdown", "--model", str(work.model), "--device", "7")

    assert said.code == 2
    assert "--device 7: no GPU is available" in said.err
    assert len(work.sessions()) == before

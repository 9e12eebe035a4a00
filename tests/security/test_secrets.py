"""No secret of the user's environment is in any file, nor within reach of an engine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.base.secret_variables import is_secret, without_secrets
from methods.environments import environments
from methods.environments.environments import CreationError, EnvironmentProblemError
from methods.jobs.runner_job import JobError, run_job
from tests.sessions.workplace import Workplace, runs_of

ENGINE = Path(__file__).with_name("telling_engine.py")
MARK = "5ecre7"  # in every secret, and in nothing else
SECRETS = {
    "HF_TOKEN": f"hf_{MARK}aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{MARK}bbbbbbbbbbbb",
    "OPENAI_API_KEY": f"sk-{MARK}cccccccccccc",
    "ANTHROPIC_APIKEY": MARK + "d",
    "AWS_SECRET_ACCESS_KEY": MARK + "e",
    "aws_session_token": MARK + "f",
    "PGPASSWORD": MARK + "g",
    "MYSQL_PASSWD": MARK + "h",
    "GPG_PASSPHRASE": MARK + "i",
    "GOOGLE_CREDENTIALS": MARK + "j",
    "SSH_PRIVATE_KEY": MARK + "k",
    "AZURE_STORAGE_CONNECTION_STRING": MARK + "l",
    "DATABASE_URL": f"postgres://me:{MARK}@db/x",
    "HTTPS_PROXY": f"http://me:{MARK}@127.0.0.1:9",
    "NOTHING_SPECIAL": f"ghp_{MARK}mmmmmmmmmmmm",
    "PIP_INDEX_URL": f"http://me:{MARK}@127.0.0.1:9/simple",
    "UV_INDEX_CORP_PASSWORD": MARK + "n",
    "KASOKU_TEST_SECRET": MARK + "o",
}
KEPT = {
    "LANG_OF_MINE": "kept",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HOME_OF_MINE": "/some/where",
    "MY_URL": "https://example.org/a:b@c",
}


def files_with(mark: str, *folders: Path) -> list[str]:
    """Files whose content or name holds the mark."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    return [str(path) for path in paths if mark in path.name] + [
        str(path) for path in files if mark.encode() in path.read_bytes()
    ]


def telling(work: Workplace) -> str:
    folder = work.config / "methods"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "telling.toml").write_text(
        f'[methods.telling]\nsummary = "tells"\nengine = {json.dumps(str(ENGINE))}\n'
        'environments = { cpu = "plain" }\nmust_show = { cache = "dynamic" }\n'
    )
    return "telling"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SECRETS | KEPT).items():
        monkeypatch.setenv(name, value)


def test_a_run_leaves_no_secret_in_any_file_and_its_plan_and_jobs_keep_no_variable(
    work: Workplace, secrets: None
) -> None:
    """The engine writes all it knows into its log, the wire and the evidence; Kasoku keeps all of that."""
    name = telling(work)
    said = work.kasoku(*work.options(name, requests=2, blocks=2))
    assert said.code == 1, "its first block ends in an exception, its second has one in a request"
    folder = work.sessions()[0]
    assert work.command("show", folder.id, "--json").code == 0
    told = json.loads(next(run["resolved"] for run in runs_of(folder) if run["method"] == name))["environment"]
    assert {key: told.get(key) for key in KEPT} == KEPT, "what is no secret is passed on"
    assert not set(told) & set(SECRETS)
    log = (folder.path / "logs" / "telling-0.log").read_text()
    assert "LANG_OF_MINE" in log, "this test looks at something"
    everything = [work.home, work.config, Path(os.environ["HF_HOME"])]
    assert files_with("LANG_OF_MINE", work.home)
    assert files_with(MARK, *(each for each in everything if each.is_dir())) == []
    assert MARK not in said.out + said.err
    job = json.loads((folder.path / "logs" / "telling-0.json").read_bytes())
    assert not set(job) & {"env", "environ", "variables", "token"}
    plan = (folder.path / "plan.json").read_text()
    assert '"command"' in plan
    for text in (plan, (folder.path / "session.json").read_text()):
        assert "LANG_OF_MINE" not in text


def test_an_index_with_a_password_that_fails_leaves_it_nowhere(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv repeats addresses in its errors; they go to the screen and into a session's journal."""
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (work.config / "environments").mkdir(mode=0o700, exist_ok=True)
    (work.config / "environments" / "made.toml").write_text(
        '[made]\npurpose = "a test"\nimports = []\nrequirements = ["no-such-thing-of-kasoku==1"]\npython = ">=3.9"\n'
    )
    environ = {**os.environ, "PIP_INDEX_URL": f"http://me:{MARK}@127.0.0.1:9/simple"}
    said: list[str] = []
    with pytest.raises(CreationError) as caught:
        environments.create(
            "made", work.home, work.config, environ=environ, report=lambda progress: said.append(progress.detail)
        )
    assert "127.0.0.1:9" in f"{caught.value} {caught.value.log_tail}", "it was asked"
    assert MARK not in f"{caught.value} {caught.value.log_tail} {said}"
    assert files_with(MARK, work.home, work.config) == []


def test_jobs_that_convert_get_no_secret_either(work: Workplace, secrets: None, tmp_path: Path) -> None:
    """A stand-in interpreter prints its environment into the job's log."""
    spy = tmp_path / "python"
    spy.write_text("#!/bin/sh\nenv\n")
    spy.chmod(0o700)
    log = work.home / "spy.log"
    with pytest.raises(JobError):
        run_job(Interpreter("plain", spy, (), {}, "own", {}), {"job": "convert"}, log, lambda _: None)
    text = log.read_text()
    assert "LANG_OF_MINE=kept" in text
    assert MARK not in text


def test_a_secret_is_refused_as_an_environments_variable(work: Workplace) -> None:
    for name, value in (("HF_TOKEN", "x"), ("INNOCENT", f"hf_{MARK}aaaaaaaaaa")):
        with pytest.raises(EnvironmentProblemError, match=f"--variable {name} looks like a secret"):
            environments.use("mine", Path(sys.executable), work.home, work.config, variables={name: value})
    assert files_with(MARK, work.home, work.config) == []
    environments.use("mine", Path(sys.executable), work.home, work.config, variables={"OMP_PROC_BIND": "true"})


def test_a_secret_written_into_the_config_by_hand_stays_there(work: Workplace) -> None:
    """The journal keeps an environment's variables, but none that looks like a secret."""
    path = work.config / "environments" / "plain.toml"
    path.write_text(path.read_text() + f'[plain.variables]\nMY_TOKEN = "{MARK}"\nMINE = "kept"\n')
    folder = work.run(telling(work))
    assert files_with(MARK, work.home) == []
    log = (folder.path / "logs" / "telling-0.log").read_text()
    assert "'MINE': 'kept'" in log


def test_hub_errors_do_not_repeat_the_token(work: Workplace, secrets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY",):
        monkeypatch.delenv(name)
    work.method("one")
    said = work.kasoku(*work.options("one", model="org/name"))
    assert said.code == 2
    assert MARK not in said.out + said.err
    assert files_with(MARK, work.home, work.config) == []


@pytest.mark.parametrize("name", SECRETS)
def test_what_counts_as_a_secret(name: str) -> None:
    if name != "PIP_INDEX_URL":  # by its address, as DATABASE_URL
        assert is_secret(name, SECRETS[name])
    assert without_secrets({name: SECRETS[name], "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", KEPT)
def test_what_does_not(name: str) -> None:
    assert not is_secret(name, KEPT[name])

"""A request that makes no sense: exit code 2, one line that says what is wrong and what would be right, no session."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.methods.hub_server import serving
from tests.methods.small_server import running
from tests.sessions.conftest import opened
from tests.sessions.workplace import CONTEXT, KASOKU, Said, Workplace, make_model


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("bad")):
        work.method("one")
        work.method("two", reference="one")
        make_model(work.model.with_name("talks"), ["hello", "world"])
        yield work


@pytest.fixture(autouse=True)
def nothing_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """A request that was wrongly taken fails its own test and no other."""
    yield
    if "work" in request.fixturenames:
        work: Workplace = request.getfixturevalue("work")
        for folder in work.sessions():
            folder.ask("stop")
            work.finished(folder)
            shutil.rmtree(folder.path)


def refused(work: Workplace, said: Said, sentence: str) -> None:
    assert (said.code, said.out) == (2, ""), said.out + said.err
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1, f"one line and no more: {said.err}"
    assert said.err.startswith("kasoku: ")
    assert len(said.err) < 700
    assert re.search(sentence, said.err), said.err
    assert "Traceback" not in said.err
    assert work.sessions() == [], "no session was made"


NO_GPU = r"no GPU is available \(.*\); use --device cpu\."
RUN: dict[str, tuple[list[str], str]] = {
    "an unknown method, and the nearest": (["--method", "onee"], r"[Uu]nknown method 'onee': did you mean one\?"),
    "the nearest of several": (["--method", "basline"], r"[Uu]nknown method 'basline': did you mean baseline"),
    "a method like no other": (["--method", "qqqq"], r"[Uu]nknown method 'qqqq': `kasoku methods` lists"),
    "no requests": (["--requests", "0"], r"--requests 0 is out of range: use a whole number from 1 to 1,000,000"),
    "negative requests": (["--requests", "-1"], r"--requests -1 is out of range"),
    "more requests than anybody waits for": (["--requests", "10000000000"], r"--requests 10000000000 is out of range"),
    "requests in words": (["--requests", "many"], r"--requests: 'many' is not a whole number"),
    "requests that are a dash": (["--requests=--"], r"--requests: invalid value: '--'"),
    "requests with a point": (["--requests", "1.5"], r"--requests: '1.5' is not a whole number"),
    "fewer requests than blocks": (
        ["--requests", "2", "--blocks", "3"],
        r"--requests 2 cannot fill 3 blocks: use at least 3, or fewer --blocks",
    ),
    "no blocks": (["--blocks", "0"], r"--blocks 0 is out of range: use a whole number from 1"),
    "negative warm-ups": (["--warmup", "-1"], r"--warmup -1 is out of range: use a whole number from 0"),
    "a negative seed": (["--seed", "-1"], r"--seed -1 is out of range"),
    "a seed beyond all": (["--seed", str(2**31)], r"--seed 2147483648 is out of range"),
    "no tokens": (["--max-new-tokens", "0"], r"--max-new-tokens 0 is out of range: use a whole number from 1"),
    "a negative length": (["--max-new-tokens", "-8"], r"--max-new-tokens -8 is out of range"),
    "a temperature that is none": (["--temperature", "nan"], r"--temperature nan is out of range: use a number from 0"),
    "a negative temperature": (["--temperature", "-0.1"], r"--temperature -0.1 is out of range"),
    "a huge temperature": (["--temperature", "1e9"], r"--temperature 1e\+09 is out of range"),
    "an endless temperature": (["--temperature", "inf"], r"--temperature inf is out of range"),
    "top-p above one": (["--top-p", "1.5"], r"--top-p 1.5 is out of range: use a number from 1e-06 to 1"),
    "top-p of zero": (["--top-p", "0"], r"--top-p 0 is out of range"),
    "top-p that is none": (["--top-p", "nan"], r"--top-p nan is out of range"),
    "a negative top-k": (["--top-k", "-1"], r"--top-k -1 is out of range"),
    "no repetition penalty": (["--repetition-penalty", "0"], r"--repetition-penalty 0 is out of range"),
    "an unknown dtype": (["--dtype", "int3"], r"--dtype int3 is unknown: choose from bfloat16, float16, float32"),
    "an unknown preset": (["--preset", "slow"], r"[Uu]nknown preset 'slow': choose from quick, quantised, engines"),
    "no threads": (["--threads", "0"], r"--threads 0 is out of range"),
    "no time to load": (["--load-deadline", "0"], r"--load-deadline 0 s is out of range"),
    "a deadline that is none": (["--token-deadline", "nan"], r"--token-deadline nan s is out of range"),
    "no precision": (["--until", "0%"], r"--until 0% is out of range: use a percentage from 0.1% to 50%"),
    "a precision in words": (["--until", "abc"], r"--until: 'abc' is not a percentage such as 5%"),
    "a precision that is none": (["--until", "nan%"], r"--until nan% is out of range"),
    "no time at all": (
        ["--until", "5%", "--at-most", "1s"],
        r"--at-most 1 s is out of range: use a duration from 10 s",
    ),
    "a time in words": (["--until", "5%", "--at-most", "soon"], r"--at-most: 'soon' is not a duration such as 90s"),
    "a time for a fixed number": (["--at-most", "30m", "--blocks", "3"], r"--at-most goes with --until"),
    "a length in words": (["--prompt-tokens", "few"], r"prompt-tokens: .few. is not a whole number"),
    "text and length": (["--prompt", "hi", "--prompt-tokens", "4"], r"--prompt and --prompt-tokens exclude each other"),
    "a prompt without tokens": (["--prompt-tokens", "0"], r"--prompt-tokens 0 is out of range"),
    "a prompt and output longer than the context": (
        ["--prompt-tokens", str(CONTEXT - 5), "--max-new-tokens", "10"],
        rf"{CONTEXT - 5} tokens and 10 new ones do not fit model's context of {CONTEXT}; shorten the prompt",
    ),
    "an output longer than the context": (["--max-new-tokens", str(CONTEXT)], r"do not fit"),
    "raw and chat": (["--raw", "--chat"], r"--chat: not allowed with argument --raw"),
    "an unknown option": (["--tempature", "1"], r"(?i)unrecognized arguments: --tempature"),
    "an option without its value": (["--method"], r"--method: expected one argument"),
    "words that are no option": (["fast"], r"(?i)unrecognized arguments: fast"),
    "a device that is none": (["--device", "tpu"], r"--device tpu is not a device: use cpu, or GPU indices"),
    "a model without a name": (["--model", ""], r"(?i)model"),
    "a shape that nobody has": (["--model", "synthetic:gpt-99"], r"gpt-99.*llm-jp-1.3b"),
}


@pytest.mark.parametrize("name", RUN)
def test_run_refuses(work: Workplace, name: str) -> None:
    changed, sentence = RUN[name]
    given = [] if "--method" in changed else ["one"]
    refused(work, work.command(*work.options(*given), *changed), sentence)


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["0", "0,1", "7"])
def test_a_gpu_that_is_not_there_is_refused(work: Workplace, device: str) -> None:
    refused(work, work.command(*work.options("one", device=device)), rf"--device {device}: {NO_GPU}")


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("", r"[Tt]he prompt is empty: .*contains no text"),
        (" \n\t", r"[Tt]he prompt is empty"),
        ("@/no/such/file", r"prompt file /no/such/file cannot be read: no such file or directory"),
        ("@{folder}", r"cannot be read: is a directory"),
        ("@{folder}/empty", r"[Tt]he prompt is empty: the file .*/empty contains no text"),
        ("@{folder}/binary", r"prompt file .*/binary is not UTF-8 text"),
        ("-", r"[Tt]he prompt is empty: standard input contains no text"),
    ],
)
def test_a_prompt_that_is_none_is_refused(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, sentence: str
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b" ")))
    options = work.options("one", model=work.model.with_name("talks"), prompt_tokens=None)
    refused(work, work.command(*options, "--prompt", prompt.format(folder=tmp_path)), sentence)


def test_a_text_for_a_model_without_a_tokeniser_is_refused(work: Workplace) -> None:
    options = work.options("one", prompt_tokens=None, prompt="hello")
    refused(work, work.command(*options), "has no tokeniser, so it cannot take text; use --prompt-tokens N")


def test_a_text_longer_than_the_context_is_refused(work: Workplace, tmp_path: Path) -> None:
    make_model(tmp_path / "model", ["hello", "world"], max_position_embeddings=20)
    options = work.options("one", model=tmp_path / "model", prompt_tokens=None, prompt="hello " * 15)
    refused(work, work.command(*options), r"A prompt of 15 tokens and 8 new ones do not fit model's context of 20")


Damage = Callable[[Path], object]
MODELS: dict[str, tuple[Damage, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"has neither model\.safetensors"),
    "truncated weights": (
        lambda folder: os.truncate(folder / "model.safetensors", 500),
        r"not a complete safetensors file \(.*\); fetch or copy it again",
    ),
    "a truncated header": (lambda folder: os.truncate(folder / "model.safetensors", 20), "header is truncated"),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "only pickled weights.*never loaded here",
    ),
    "a config that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        r"config\.json is not valid JSON",
    ),
    "a tokeniser that is none": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_without_a_whole_model_is_refused(work: Workplace, tmp_path: Path, name: str) -> None:
    damage, sentence = MODELS[name]
    folder = make_model(tmp_path / "model", ["hello", "world"])
    damage(folder)
    refused(work, work.command(*work.options("one", model=folder)), sentence)


def test_a_folder_that_is_not_there_or_is_a_file_is_refused(work: Workplace, tmp_path: Path) -> None:
    refused(
        work, work.command(*work.options("one", model=tmp_path / "none")), f"The folder {tmp_path}/none does not exist"
    )
    (tmp_path / "file").touch()
    refused(work, work.command(*work.options("one", model=tmp_path / "file")), "is a file; name the folder")


HUB: dict[str, str] = {
    "org/gated": r"org/gated is gated: accept its terms at \S+/org/gated, then log in with `hf auth login`",
    "org/absent": r"The Hub has no model org/absent, or you may not see it",
    "org/empty": r"org/empty on the Hub has no config\.json, so it is not a model",
    "org/name/more": r"No model is called 'org/name/more'; choose from smollm2-135m",
    "no spaces/here": r"No model is called 'no spaces/here'",
}


EACH_IN_TURN = """
import contextlib, io, json, sys
from tui.command_line import main
told = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    told.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def of_the_hub(work: Workplace) -> dict[str, Said]:
    """What is said of each of these models; in a process of its own, which reads the Hub's address as it starts."""
    with serving({"org/gated": {"config.json": b"{}"}, "org/empty": {"README.md": b""}}) as server:
        server.gated.add("org/gated")
        done = subprocess.run(
            [sys.executable, "-c", EACH_IN_TURN],
            input=json.dumps([work.options("one", model=name) for name in HUB]),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env={**os.environ, "HF_ENDPOINT": server.address},
        )
    assert done.stderr == ""
    return dict(zip(HUB, (Said(*told) for told in json.loads(done.stdout)), strict=True))


@pytest.mark.parametrize("name", HUB)
def test_a_repository_that_cannot_be_had_is_refused(work: Workplace, of_the_hub: dict[str, Said], name: str) -> None:
    refused(work, of_the_hub[name], HUB[name])


def test_a_hub_that_cannot_be_reached_is_refused_with_its_reason(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    command = [str(KASOKU), *work.options("one", model="org/name")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    refused(
        work,
        Said(done.returncode, done.stdout, done.stderr),
        r"Hub cannot be reached \(.*Connection refused\).*org/name is not in its local cache",
    )


COMMANDS: dict[str, tuple[list[str], str]] = {
    "an unknown command": (["rnu"], r"(?i)invalid choice: 'rnu'.*run"),
    "show without a session": (["show"], "required: session"),
    "a negative speed": (["replay", "last", "--speed", "-1"], "no sessions yet"),
    "stop with nothing to stop": (["stop"], r"No session is running"),
    "attach with nothing to follow": (["attach"], r"No session is running: `kasoku run` starts one"),
    "no folder to export to": (["export", "last"], "required: --out"),
    "an environment that nobody knows": (["env", "create", "tourch"], r"'tourch'; did you mean torch\?"),
    "an interpreter that is not there": (
        ["env", "use", "torch", "/no/python"],
        "/no/python is not a file",
    ),
    "an environment that was never made": (["env", "remove", "torch"], "There is no environment torch to remove"),
    "a model that is none": (["models", "fetch", "/no/such/model"], "The folder /no/such/model does not exist"),
    "the workbench without a terminal": ([], r"needs a terminal; without one, use `kasoku run`"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_other_commands_refuse(work: Workplace, name: str) -> None:
    arguments, sentence = COMMANDS[name]
    refused(work, work.command(*arguments), sentence)


@pytest.mark.parametrize("command", ["show", "attach", "stop", "resume", "replay", "compare", "export"])
def test_an_unknown_session_is_refused(work: Workplace, command: str) -> None:
    more = ["--out", "/tmp/nowhere"] if command == "export" else []  # noqa: S108
    refused(work, work.command(command, "20250101-000000-abcdef", *more), r"There are no sessions yet: `kasoku run`")


def test_an_unknown_session_beside_others_is_refused(tmp_path: Path) -> None:
    for work in opened(tmp_path):
        folder = work.run(work.method("one"))
        for arguments, sentence in (
            (["show", "nothing"], f"There is no session 'nothing': `kasoku sessions` lists them.*{folder.id}"),
            (["stop", folder.id], f"{folder.id} is not running"),
            (["compare", f"{folder.id}:two"], f"{folder.id} has no method 'two': choose from one"),
            (["replay", folder.id, "--speed", "0"], r"--speed 0 is out of range: use a number from 0\.01"),
            (["replay", folder.id, "--speed", "nan"], r"--speed nan is out of range"),
            (["export", folder.id, "--out", str(folder.journal)], r"cannot be made|cannot be written"),
            (["compare", folder.id, "--csv", str(tmp_path / "no" / "such" / "x.csv")], "cannot be written"),
        ):
            said = work.command(*arguments)
            assert (said.code, said.out) == (2, ""), said
            assert said.err.count("\n") == 1
            assert re.search(sentence, said.err), said.err
        assert len(work.sessions()) == 1


def unwritable(tmp_path: Path, kind: str) -> Path:
    """A home that nothing can be written to; root may write past permission bits, so there are others."""
    if kind == "a file in the way":
        (tmp_path / "home").write_text("mine")
        return tmp_path / "home" / "kasoku"
    if kind == "a file as sessions":
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "sessions").write_text("mine")
        return tmp_path / "home"
    return Path("/proc/kasoku")


@pytest.mark.parametrize("kind", ["a file in the way", "a file as sessions", "a read-only file system"])
def test_a_home_that_cannot_be_written_is_refused(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    home = unwritable(tmp_path, kind)
    monkeypatch.setenv("KASOKU_HOME", str(home))
    said = work.command(*work.options("one"))
    refused(work, said, r"Kasoku cannot write to .*; make it writable, or set KASOKU_HOME")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_home_on_a_read_only_disk_is_refused(
    work: Workplace, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    monkeypatch.setenv("KASOKU_HOME", str(small_disk / "home"))
    refused(work, work.command(*work.options("one")), r"Kasoku cannot write to .*[Rr]ead-only file system")


def test_a_preset_of_which_nothing_can_run_here_says_what_mends_it(work: Workplace) -> None:
    said = work.command("run", "--device", "cpu", "--model", str(work.model))
    refused(work, said, r"None of these methods can run here: .*`kasoku env create torch`.*--create-environments")


def test_the_command_itself_says_it_on_stderr_alone(work: Workplace) -> None:
    """As a process, once, and in a terminal's language."""
    refused(work, work.kasoku("run", "--requests", "0"), "--requests 0 is out of range")


@pytest.mark.parametrize("argument", ["\x1b[31mred", "a\nb", "\x9b6n", "x" * 5_000, "\udcff", "[bold]x[/bold]"])
def test_what_was_typed_comes_back_harmless_and_in_one_line(work: Workplace, argument: str) -> None:
    for arguments in (["run", "--method", argument], ["show", argument], ["run", "--model", argument], [argument]):
        said = work.command(*arguments)
        assert said.code == 2, said
        assert said.err.count("\n") == 1
        assert len(said.err) < 700
        assert not set(said.err[:-1]) & {chr(code) for code in [*range(32), *range(0x7F, 0xA0)]}
        assert said.err.encode(errors="strict")


# Servers

NO_SERVER = "http://127.0.0.1:9"
SERVERS: dict[str, tuple[list[str], str]] = {
    "no scheme": (
        ["--server", "localhost:8000"],
        r"'localhost:8000' is not the address of a server: .*http://localhost:8000",
    ),
    "another scheme": (["--server", "ftp://localhost"], r"'ftp://localhost' is not the address of a server"),
    "no host": (["--server", "http://"], r"'http://' is not the address of a server"),
    "a port that is none": (["--server", "http://localhost:x"], r"is not the address of a server"),
    "nothing": (["--server", ""], r"'' is not the address of a server"),
    "a password": (["--server", "http://me:secret@host"], r"An address with a password in it"),
    "nobody there": (["--server", NO_SERVER], r"The server at 127\.0\.0\.1:9 cannot be reached: Connection refused"),
    "a model of none": (["--server-model", "x"], r"--server-model goes with --server"),
    "a key of none": (["--server-key", "X"], r"--server-key goes with --server"),
    "a key that is not set": (["--server", NO_SERVER, "--server-key", "NOT_THERE"], r"no such environment variable"),
    "a key in place of its name": (
        ["--server", NO_SERVER, "--server-key", "sk-1"],
        r"takes the name of the environment",
    ),
    "a key for whoever it is": (["--server", "auto", "--server-key", "PATH"], r"--server auto asks without a key"),
    "against itself": (["--server", NO_SERVER, "--aa"], r"--aa and --server exclude each other"),
    "fidelity": (["--server", NO_SERVER, "--fidelity"], r"--fidelity needs the model itself"),
    "a length in tokens": (["--server", NO_SERVER, "--prompt-tokens", "9"], r"--prompt-tokens needs the model itself"),
    "a length in tokens at a load": (["--server", NO_SERVER, "--isl", "9"], r"--isl needs the model itself"),
    "a precision": (["--server", NO_SERVER, "--until", "5%"], r"--until goes by intervals"),
    "a time for a load": (
        ["--server", NO_SERVER, "--concurrency", "4", "--at-most", "30s"],
        r"--at-most would end a load before it is steady",
    ),
    "a time beside a method": (
        ["--server", NO_SERVER, "--method", "baseline", "--requests", "3", "--at-most", "30s"],
        r"--at-most goes with --until",
    ),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_is_none_is_refused(work: Workplace, name: str) -> None:
    arguments, sentence = SERVERS[name]
    said = work.command("run", "--device", "cpu", *arguments)
    refused(work, said, sentence)
    assert "secret" not in said.err
    assert "sk-1" not in said.err


@pytest.mark.parametrize(
    ("fault", "key", "more", "sentence"),
    [
        ("", "", ["--server-model", "kasokuu"], r"has no model 'kasokuu': did you mean kasoku\?"),
        ("two models", "", [], r"has several models: choose with --server-model from kasoku, other"),
        ("no model", "", [], r"lists no models: have it load one"),
        ("", "a key", [], r"wants an API key: put it into an environment variable, .* --server-key"),
        ("", "a key", ["--server-key", "PATH"], r"refuses /v1/models \(401\): the API key is wrong"),
        ("big list", "", [], r"answered with over 16 MB"),
        ("goes on for ever", "", [], r"The server at .* did not answer in time"),
        ("never ready", "", [], r"answered /v1/models with status 503: Loading model"),
    ],
)
def test_a_server_that_cannot_be_measured_is_refused(
    work: Workplace, fault: str, key: str, more: list[str], sentence: str
) -> None:
    with running("vllm", fault, key) as server:
        said = work.command("run", "--device", "cpu", "--server", server.address, *more)
    refused(work, said, sentence)

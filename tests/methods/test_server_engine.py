"""The engine of servers, held against a real small server: what it measures, and what it says of each fault."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from methods.base.warded_process import WardedProcess
from tests.methods.runner_module import runner_module
from tests.methods.runner_process import RUNNER, Outcome, measure_job
from tests.methods.small_server import SmallServer, running

SERVER = Path(__file__).with_name("small_server.py")
PROMPT = [504, 3575, 282, 4649, 314]
SUM = sum(PROMPT)
IDS = [(SUM + place) % 1000 for place in range(4)]


def measured(tmp_path: Path, *more: str, ends_ns: int | None = None, **options: object) -> Outcome:
    """The block of a runner under its warden, as in a session; of the server nothing is left."""
    command = [sys.executable, str(SERVER), "{port}", "--asked", str(tmp_path / "asked"), *more]
    asked: dict[str, object] = {"command": command, "key_variable": "KASOKU_TEST_KEY", **options}
    job = measure_job("server", options=asked, load_deadline_s=20, prompt_text="Say some words now", ends_ns=ends_ns)
    return block(tmp_path, job)


def block(tmp_path: Path, job: dict[str, object]) -> Outcome:
    file, log = tmp_path / "job.json", tmp_path / "runner.log"
    file.write_text(json.dumps({"schema": 1, **job}))
    program = [sys.executable, "-I", str(RUNNER), str(file), WardedProcess.WIRE]
    process = WardedProcess(program, log, os.environ, tmp_path, 1 << 20)
    said = [json.loads(line) for line in process.lines_to_the_end() if line]
    end = process.close()
    for each in psutil.process_iter(["cmdline"]):
        assert str(tmp_path) not in " ".join(each.info["cmdline"] or ()), each
    return Outcome(tuple(said), end.exit if end.exit is not None else -1, log.read_text(errors="replace"))


def texts_of(outcome: Outcome, request: int) -> list[object]:
    """The pieces of a response's text, in order."""
    lines = [line["texts"] for line in outcome.of("text") if line["request"] == request]
    return [piece for texts in lines if isinstance(texts, list) for piece in texts]


def failed(tmp_path: Path, fault: str, *more: str) -> str:
    """The sentence that is said of a fault."""
    outcome = measured(tmp_path, "--fault", fault, *more)
    assert outcome.status == 1, outcome.log
    return str(outcome.one("error")["message"])


@pytest.mark.parametrize("speaks", ["vllm", "llamacpp", "sglang"])
def test_ids_come_as_the_server_generates_them(tmp_path: Path, speaks: str) -> None:
    outcome = measured(tmp_path, "--speaks", speaks)

    assert outcome.status == 0, outcome.log
    for request in range(3):
        times, ids = outcome.tokens(request)
        assert ids == IDS
        assert times == sorted(set(times)), "each token has its own time"
    ends = outcome.of("request_end")
    assert [(end["finish"], end["output_tokens"]) for end in ends] == [("length", 4)] * 3
    evidence = outcome.one("evidence")["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["served_by"] == speaks
    assert evidence["fresh_process"] is True
    assert evidence["token_ids"] is True
    assert evidence["incomparable"] == []


def test_what_is_asked_of_vllm(tmp_path: Path) -> None:
    outcome = measured(tmp_path)

    assert outcome.status == 0, outcome.log
    first = json.loads((tmp_path / "asked").read_text().splitlines()[0])
    assert first["path"] == "/v1/completions"
    assert first["prompt"] == PROMPT
    assert (first["max_tokens"], first["temperature"], first["seed"]) == (4, 0.0, 1)
    assert first["ignore_eos"] is True
    assert first["return_token_ids"] is True
    loaded = outcome.one("loaded")
    assert loaded["versions"] == {"vllm": "1.2.3"}
    unknown = dict.fromkeys(("weights_bytes", "dtype", "device", "threads"), "A server does not say it over HTTP.")
    assert {name: loaded[name] for name in unknown} == dict.fromkeys(unknown)
    assert loaded["missing"] == unknown


@pytest.mark.parametrize("speaks", ["openai", "chat"])
def test_text_without_ids_is_counted_by_the_server(tmp_path: Path, speaks: str) -> None:
    outcome = measured(tmp_path, "--speaks", speaks, protocol=speaks)

    assert outcome.status == 0, outcome.log
    assert outcome.of("tokens") == []
    assert texts_of(outcome, 1) == ["四 ", "one ", "två ", "three "]
    end = next(end for end in outcome.of("request_end") if end["request"] == 1)
    assert (end["output_tokens"], end["counted_prompt_tokens"], end["finish"]) == (4, 4, "length")
    evidence = outcome.one("evidence")["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["token_ids"] is False
    assert "the prompt is sent as text" in evidence["incomparable"]
    assert "a response may end at the model's EOS" in evidence["incomparable"]


def test_text_comes_beside_ids_that_nobody_else_can_decode(tmp_path: Path) -> None:
    """Those of a server's own model, whose tokeniser the session does not have."""
    command = [sys.executable, str(SERVER), "{port}", "--asked", str(tmp_path / "asked")]
    job = measure_job(
        "server", options={"command": command}, prompts=[[]], prompt_text="Say some words now", greedy=True
    )
    outcome = block(tmp_path, job)

    assert outcome.status == 0, outcome.log
    for request in range(3):
        assert len(outcome.tokens(request)[1]) == 4
        assert "".join(map(str, texts_of(outcome, request))) == "四 one två three "
    evidence = outcome.one("evidence")["evidence"]
    assert isinstance(evidence, dict)
    assert "greedy" not in evidence.get("missing", {}), evidence


def test_two_tokens_in_a_chunk_share_its_time_and_are_two(tmp_path: Path) -> None:
    outcome = measured(tmp_path, "--fault", "two a chunk")

    times, ids = outcome.tokens(1)
    assert ids == IDS
    assert len(set(times)) == 2


def test_two_tokens_in_a_chunk_of_text_are_two(tmp_path: Path) -> None:
    outcome = measured(tmp_path, "--fault", "two a chunk", "--speaks", "openai")

    assert outcome.status == 0, outcome.log
    assert [end["output_tokens"] for end in outcome.of("request_end")] == [4, 4, 4]
    assert texts_of(outcome, 1) == ["四 one ", "två three "]


@pytest.mark.parametrize("speaks", ["vllm", "openai"])
def test_half_a_character_is_shown_as_one_that_cannot_be_and_counts(tmp_path: Path, speaks: str) -> None:
    outcome = measured(tmp_path, "--fault", "half a character", "--speaks", speaks)

    assert outcome.status == 0, outcome.log
    assert [end["output_tokens"] for end in outcome.of("request_end")] == [4, 4, 4]
    if speaks == "openai":
        assert texts_of(outcome, 1) == ["�", "one ", "två ", "three "]


def test_an_id_that_llama_server_holds_back_is_unknown_but_counted(tmp_path: Path) -> None:
    outcome = measured(tmp_path, "--fault", "half a character", "--speaks", "llamacpp")

    times, ids = outcome.tokens(1)
    assert ids == [IDS[0], None, *IDS[2:]]
    assert times[1] == times[2], "it came with the next"


def stopping(tmp_path: Path, stop: int, *more: str) -> Outcome:
    """A llama-server, which cannot be told the session's stop ids."""
    command = [sys.executable, str(SERVER), "{port}", "--speaks", "llamacpp", *more]
    sampling = {"max_new_tokens": 4, "stop_token_ids": [stop], "temperature": 0.0}
    return block(tmp_path, measure_job("server", options={"command": command}, sampling=sampling))


def test_a_response_is_over_at_a_stop_id_that_llama_server_is_not_told(tmp_path: Path) -> None:
    outcome = stopping(tmp_path, IDS[1])
    assert outcome.status == 0, outcome.log
    assert [outcome.tokens(number)[1] for number in range(3)] == [IDS[:2]] * 3
    assert [end["finish"] for end in outcome.of("request_end")] == ["eos"] * 3
    assert outcome.one("evidence")["evidence"]["incomparable"] == []  # type: ignore[index]


def test_a_stop_id_that_comes_last_takes_nothing_of_what_the_server_counts(tmp_path: Path) -> None:
    outcome = stopping(tmp_path, IDS[3])
    assert [(end["output_tokens"], end["cached_prompt_tokens"]) for end in outcome.of("request_end")] == [(4, 0)] * 3


def test_a_response_that_ends_where_the_session_would_go_on_is_not_comparable(tmp_path: Path) -> None:
    outcome = stopping(tmp_path, 999, "--fault", "ends by itself")
    assert [end["finish"] for end in outcome.of("request_end")] == ["eos"] * 3
    said = outcome.one("evidence")["evidence"]["incomparable"]  # type: ignore[index]
    assert said == ["a response ended at a token that is none of the session's stop tokens"]


def test_an_event_in_two_writes_is_one(tmp_path: Path) -> None:
    assert measured(tmp_path, "--fault", "torn").tokens(2)[1] == IDS


def test_a_server_killed_in_mid_request_is_said_to_be(tmp_path: Path) -> None:
    said = failed(tmp_path, "killed")
    assert said.endswith("was killed by signal 9: see the log.")


def test_what_was_sent_before_the_kill_is_kept(tmp_path: Path) -> None:
    outcome = measured(tmp_path, "--fault", "killed")
    assert outcome.tokens(0)[1] == IDS[:2]
    assert outcome.one("request_end")["finish"] == "error"


SENTENCES = {
    "500": "status 500: CUDA [31m error: an illegal memory access",
    "redirect": "redirects /v1/completions to http://127.0.0.1:1/v1/completions, which is not followed",
    "closed": "closed the connection in mid-answer",
    "no stream": "does not stream: it answered with application/json",
    "floods": "floods: over",
    "one endless line": "sent a line of over 1 MB",
    "not JSON": "sent what is not JSON",
    "an error in mid-stream": "reports an error: EngineCore died",
    "ignores the length": "went on after the 4 tokens that it was asked for",
    "another model": "answers for the model another, not kasoku",
    "another tokeniser": "counts 8 tokens in a prompt of 5",
    "miscounts": "counts 5 tokens, but sent 4",
    "reuses more than there is": "says that it reused 6 tokens of a prompt of 5",
    "ends": "ended with status 1: see the log",
    "two models": "has 2 models: name one of kasoku, other",
    "no model": "has 0 models",
    "odd name": "has a model whose name is too long or holds what cannot be shown: kas [31moku",
}


@pytest.mark.parametrize("fault", SENTENCES)
def test_a_fault_is_one_sentence(tmp_path: Path, fault: str) -> None:
    said = failed(tmp_path, fault)
    assert SENTENCES[fault] in said
    assert "\x1b" not in said
    assert len(said.splitlines()) == 1


def test_a_count_to_the_moon_is_no_memory(tmp_path: Path) -> None:
    said = failed(tmp_path, "counts to the moon", "--speaks", "llamacpp")
    assert "went on after the 4 tokens" in said


@pytest.mark.parametrize("fault", ["ignores the length", "miscounts", "no usage", "no count"])
def test_counts_that_cannot_be_are_faults_where_there_is_text_alone(tmp_path: Path, fault: str) -> None:
    said = failed(tmp_path, fault, "--speaks", "openai")
    expected = {
        "ignores the length": "went on after the 4 tokens",
        "miscounts": "generated 5 tokens where 4 were asked for",
        "no usage": "says neither the IDs nor the number of its tokens",
        "no count": "says neither the IDs nor the number of its tokens",
    }
    assert expected[fault] in said


@pytest.mark.parametrize("fault", ["never ready", "silent"])
def test_a_server_that_never_gets_ready(tmp_path: Path, fault: str) -> None:
    asked = {"command": [sys.executable, str(SERVER), "{port}", "--fault", fault, "--asked", str(tmp_path)]}
    outcome = block(tmp_path, measure_job("server", options=asked, load_deadline_s=1))
    assert "was not ready after 0.9 s: see the log." in str(outcome.one("error")["message"])


def test_the_key_is_in_a_file_where_that_is_how_the_server_takes_it(tmp_path: Path) -> None:
    options = {"command": [sys.executable, str(SERVER), "{port}", "--key-file", "{file}"], "file_form": "{key}\n"}
    outcome = block(tmp_path, measure_job("server", options=options, private_folder=str(tmp_path)))
    assert outcome.status == 0, outcome.log
    key = (tmp_path / "server.conf").read_text().strip()
    assert len(key) >= 40
    assert (tmp_path / "server.conf").stat().st_mode & 0o777 == 0o600
    assert key not in json.dumps([dict(message) for message in outcome.messages]) + outcome.log


def test_the_key_is_another_for_each_start_and_in_no_argument(tmp_path: Path) -> None:
    script = tmp_path / "noting.py"
    script.write_text(
        "import os, runpy, sys\n"
        f"open({str(tmp_path / 'seen')!r}, 'a').write(os.environ['KASOKU_TEST_KEY'] + '\\n')\n"
        "assert os.environ['KASOKU_TEST_KEY'] not in open('/proc/self/cmdline').read()\n"
        f"sys.argv = [{str(SERVER)!r}, sys.argv[1]]\n"
        f"runpy.run_path({str(SERVER)!r}, run_name='__main__')\n"
    )
    options = {"command": [sys.executable, str(script), "{port}"], "key_variable": "KASOKU_TEST_KEY"}
    said = []
    for _ in range(2):
        outcome = block(tmp_path, measure_job("server", options=options))
        assert outcome.status == 0, outcome.log
        said.append(json.dumps([dict(message) for message in outcome.messages]) + outcome.log)
    first, second = (tmp_path / "seen").read_text().split()
    assert first != second
    assert not any(key in text for key in (first, second) for text in said)


def test_a_program_that_is_not_there_is_unsupported(tmp_path: Path) -> None:
    outcome = measured(tmp_path, command=["no-such-server", "{port}"])
    assert outcome.one("error")["kind"] == "unsupported"
    assert "There is no program no-such-server" in str(outcome.one("error")["message"])


def test_another_process_at_the_port_is_not_taken_for_the_server(tmp_path: Path) -> None:
    """The command is up and silent; who answers at its port is nobody that it started."""
    script, ready = tmp_path / "idle.py", tmp_path / "ready"
    script.write_text(
        f"import pathlib, sys, time\npathlib.Path({str(ready)!r}).write_text(sys.argv[1])\ntime.sleep(600)\n"
    )
    with ThreadPoolExecutor() as pool:

        def stranger() -> None:
            while not ready.exists() or not ready.read_text():
                os.sched_yield()
            server = SmallServer(int(ready.read_text()))
            pool.submit(server.serve_forever)
            servers.append(server)

        servers: list[SmallServer] = []
        waiting = pool.submit(stranger)
        options = {"command": [sys.executable, str(script), "{port}"]}
        outcome = block(tmp_path, measure_job("server", options=options, load_deadline_s=2))
        waiting.result()
        servers[0].shutdown()
        servers[0].server_close()
    assert "was not ready after 1.8 s" in str(outcome.one("error")["message"])
    assert servers[0].headers_seen == []


def engine_with(server: SmallServer, **job: object) -> object:
    """The engine as its runner has it, at a server that runs already."""
    engine = runner_module("kasoku_engines/kasoku_server").ENGINE()
    engine.load(measure_job("server", options={"url": server.address}, **job))
    return engine


@pytest.mark.parametrize(("speaks", "margin"), [("vllm", 0.25), ("sglang", None)])
def test_the_greedy_pass_has_margins_where_the_server_gives_them(speaks: str, margin: float | None) -> None:
    with running(speaks) as server:
        engine: Any = engine_with(server)
        assert engine.greedy(PROMPT) == {"ids": IDS, "margins": [margin] * 4}


@pytest.mark.parametrize("speaks", ["openai", "vllm", "llamacpp", "sglang"])
def test_what_is_shown_of_sampling_is_the_same_for_every_request(speaks: str) -> None:
    """A seed is a request's own: with it in the evidence every block would be profiled and scored again."""
    sampling = {"max_new_tokens": 4, "temperature": 0.7, "top_p": 0.9, "top_k": 20}
    with running(speaks) as server:
        engine: Any = engine_with(server, sampling=sampling, prompt_text="Say some words now")
        shown = json.dumps(engine.evidence()["sampling"])
    assert "0.7" in shown
    assert "seed" not in shown


@pytest.mark.parametrize("speaks", ["vllm", "openai"])
def test_a_response_that_is_under_way_when_the_time_is_up_is_cut(speaks: str) -> None:
    """The server has gone silent after two tokens, and the connection is given up."""
    job = {"prompt_text": "Say some words now", "ends_ns": time.perf_counter_ns() + 600 * 10**9}
    with running(speaks, "hangs") as server:
        engine: Any = engine_with(server, **job)
        emitted = Noting(lambda: setattr(engine.server, "_until", time.monotonic()))
        request = SimpleNamespace(
            prompt_ids=PROMPT, max_new_tokens=4, stop_token_ids=[], seed=1, warmup=False, number=0
        )
        with pytest.raises(Exception, match="The time allowed was up before the server at") as told:
            engine.generate(request, emitted)
    assert type(told.value).__name__ == "TimeIsUpError"
    assert emitted.pieces == 2


class Noting:
    """Takes what is emitted, and after the second piece says so."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.pieces, self._then = 0, then

    def __call__(self, _: object) -> None:
        self.pieces += 1
        if self.pieces == 2:
            self._then()

    def text(self, words: str, beside: bool = False) -> None:
        if not beside:
            self(words)


def test_nothing_begins_after_the_time_is_up(tmp_path: Path) -> None:
    outcome = measured(tmp_path, ends_ns=0)
    assert outcome.status == 0, outcome.log
    assert outcome.of("request") == []
    assert outcome.one("evidence") is not None


@pytest.mark.parametrize(
    ("speaks", "said", "versions"),
    [
        ("vllm", {"name": "vLLM", "version": "1.2.3", "form": None, "parameters": None}, {"vllm": "1.2.3"}),
        (
            "ollama",
            {"name": "Ollama", "version": "0.12.6", "form": "Q4_K_M", "parameters": "134.52M"},
            {"Ollama": "0.12.6"},
        ),
        ("lm studio", {"name": "LM Studio", "version": None, "form": "4bit", "parameters": None}, {}),
        ("openai", {"name": "somebody", "version": None, "form": None, "parameters": None}, {}),
    ],
)
def test_what_a_running_server_says_of_itself(
    speaks: str, said: dict[str, str | None], versions: dict[str, str]
) -> None:
    with running(speaks) as server:
        engine = runner_module("kasoku_engines/kasoku_server").ENGINE()
        job = measure_job("server", options={"url": server.address}, prompt_text="Say some words now")
        loaded = engine.load(job)
    assert loaded["resolved"]["server"].items() >= said.items()
    assert loaded["versions"] == versions


def test_a_prompt_is_scored_by_its_logprobs() -> None:
    with running("vllm") as server:
        scores = engine_with(server).score_prefill([5, 6, 8, 9], 3)  # type: ignore[attr-defined]
    assert scores.nll == [0.006, 0.008, 0.009]
    assert scores.top1 == [7, 7, 9]
    assert scores.log_probs is None


@pytest.mark.parametrize("path", ["score_prefill", "score_decode"])
def test_what_a_server_cannot_score_is_said(path: str) -> None:
    with running("llamacpp") as server:
        engine = engine_with(server)
        with pytest.raises(Exception, match=r"hands out no probabilities|generates no given IDs"):
            getattr(engine, path)([5, 6, 8, 9], 3)


def test_the_memory_for_keys_and_values_follows_the_models_config(tmp_path: Path) -> None:
    kv_bytes = runner_module("kasoku_server_words").kv_bytes
    job = {"model_folder": str(tmp_path), "dtype": "bfloat16"}
    assert kv_bytes(job, 128) == 1 << 30, "nothing is known of it"
    config = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}
    for described in (config, {"text_config": config}):
        (tmp_path / "config.json").write_text(json.dumps(described))
        assert kv_bytes(job, 128) == 64 << 20
        assert kv_bytes(job, 100_000) == 2 * 30 * 3 * 64 * 2 * 100_512
        assert kv_bytes({**job, "dtype": "float32"}, 100_000) == 2 * 30 * 3 * 64 * 4 * 100_512


def test_braces_in_a_path_are_left_alone(tmp_path: Path) -> None:
    words = runner_module("kasoku_server_words").words_for(measure_job("server", model_folder="/models/{port}"))
    started = runner_module("kasoku_server_process").StartedServer
    server = started({"command": [sys.executable, "-c", "pass", "{model_folder}", "{x}"]}, words, None)
    server.process.wait()
    assert server.command[3:] == ["/models/{port}", "{x}"]
    with pytest.raises(Exception, match="ended with status 0"):
        server.check()

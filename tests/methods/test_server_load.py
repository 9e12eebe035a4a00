"""The engine of servers with many requests at once, at a small real server: each its own, whatever another does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.methods.loads import ids_by_request
from tests.methods.runner_module import runner_module
from tests.methods.runner_process import Outcome, measure_job
from tests.methods.small_server import running
from tests.methods.test_server_engine import block, texts_of

EACH = 8  # in flight
TIMED = range(16)
PROMPTS = [[504, 3575, 282, number] for number in range(24)]
ODD = EACH + 3  # which of the requests that come to the server has the fault: a timed one


def job_at(url: str, **way: object) -> dict[str, object]:
    """Eight warm-ups and two rounds of eight at one point, each with a prompt of its own."""
    numbers = [*range(-EACH, 0), *TIMED]
    requests = [
        {"request": number, "warmup": number < 0, "prompt_index": place, "place": 0, "seed": place}
        for place, number in enumerate(numbers)
    ]
    point = {"place": 0, "name": "c8", **(way or {"concurrency": EACH})}
    options = {"url": url}
    return measure_job(
        "server", options=options, prompts=PROMPTS, requests=requests, points=[point], prompt_text="Say some words now"
    )


def expected(number: int) -> list[int]:
    whole = sum(PROMPTS[number + EACH])
    return [(whole + place) % 1000 for place in range(4)]


def ends_of(outcome: Outcome) -> dict[Any, Any]:
    return {end["request"]: end for end in outcome.of("request_end")}


@pytest.mark.parametrize("speaks", ["vllm", "llamacpp", "sglang"])
@pytest.mark.parametrize("way", ["concurrency", "batch"])
def test_eight_at_once_have_each_its_own_ids(tmp_path: Path, speaks: str, way: str) -> None:
    """The server answers none before eight ask: one after another would never end."""
    with running(speaks, together=EACH) as server:
        outcome = block(tmp_path, job_at(server.address, **{way: EACH}))
        connections = len(server.connections)

    assert outcome.status == 0, outcome.log
    found = ids_by_request(outcome)
    assert {number: found[number] for number in TIMED} == {number: expected(number) for number in TIMED}
    assert {end["finish"] for end in ends_of(outcome).values()} == {"length"}
    assert outcome.one("point_end")["status"] == "ok"
    assert connections < 3 * EACH, "connections are kept from one request to the next"


def test_a_server_that_hangs_up_after_a_response_gets_a_new_connection_for_each(tmp_path: Path) -> None:
    """As the next request comes over it; what was lost with the connection had not begun."""
    with running("vllm", "hangs up") as server:
        outcome = block(tmp_path, job_at(server.address))

    assert outcome.status == 0, outcome.log
    assert {end["finish"] for end in ends_of(outcome).values()} == {"length"}
    found = ids_by_request(outcome)
    assert {number: found[number] for number in TIMED} == {number: expected(number) for number in TIMED}


@pytest.mark.parametrize("speaks", ["openai", "chat"])
def test_eight_texts_at_once_are_counted_by_the_server(tmp_path: Path, speaks: str) -> None:
    with running(speaks, together=EACH) as server:
        job = job_at(server.address)
        job["options"] = {"url": server.address, "protocol": speaks}
        outcome = block(tmp_path, job)

    assert outcome.status == 0, outcome.log
    ends = ends_of(outcome)
    assert [(ends[number]["output_tokens"], ends[number]["counted_prompt_tokens"]) for number in TIMED] == [(4, 4)] * 16
    assert all(texts_of(outcome, number) == ["四 ", "one ", "två ", "three "] for number in TIMED)


BROKEN = {
    "closed": "closed the stream before its end",
    "500": "status 500: CUDA [31m error: an illegal memory access",
    "floods": "floods: over 1.3 MB for one response",
    "one endless line": "sent a line of over 1 MB",
    "not JSON": "sent what is not JSON",
    "an error in mid-stream": "reports an error: EngineCore died",
    "ignores the length": "went on after the 4 tokens",
    "redirect": "which is not followed",
    "no stream": "does not stream: it answered with application/json",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_one_among_eight_that_fails_fails_alone(tmp_path: Path, fault: str) -> None:
    with running("vllm", f"{fault} once at {ODD}", together=EACH) as server:
        outcome = block(tmp_path, job_at(server.address))

    assert outcome.status == 0, outcome.log
    ends = ends_of(outcome)
    (lost,) = [number for number in TIMED if ends[number]["finish"] == "error"]
    assert BROKEN[fault] in ends[lost]["error"]
    found = ids_by_request(outcome)
    whole = [number for number in TIMED if number != lost]
    assert [found[number] for number in whole] == [expected(number) for number in whole]
    assert outcome.one("point_end")["status"] == "ok"


def test_where_every_answer_is_a_fault_the_point_is_over_soon(tmp_path: Path) -> None:
    with running("vllm", "500") as server:
        outcome = block(tmp_path, job_at(server.address))
    end = outcome.one("point_end")
    assert end["status"] == "failed"
    assert "status 500" in str(end["error"])
    assert len(outcome.of("request_end")) <= EACH + 1


def test_one_that_says_nothing_is_given_up_and_the_others_are_whole(tmp_path: Path) -> None:
    with running("vllm", f"hangs once at {ODD}", together=EACH) as server:
        outcome = block(tmp_path, {**job_at(server.address), "token_deadline_s": 1.5})
    assert outcome.status == 0, outcome.log
    errors = [end["error"] for end in outcome.of("request_end") if end["finish"] == "error"]
    assert errors
    assert all("sent nothing of use for 1.35 s" in str(error) for error in errors)


def test_an_open_loop_has_as_many_connections_as_it_takes(tmp_path: Path) -> None:
    with running("vllm", together=EACH) as server:
        outcome = block(tmp_path, job_at(server.address, rate=200.0, burstiness=1.0))
    assert outcome.status == 0, outcome.log
    assert sorted(number for number in ids_by_request(outcome) if number >= 0) == [*TIMED]
    assert all("scheduled_ns" in line for line in outcome.of("request"))


def test_words_of_a_started_server_follow_the_load() -> None:
    words = runner_module("kasoku_server_words").words_for
    alone = words(measure_job("server"))
    assert (alone["parallel"], alone["context"], alone["contexts"], alone["batched"]) == ("1", "128", "128", "128")
    several = words(job_at("http://127.0.0.1:1"))
    assert (several["parallel"], several["context"], several["contexts"]) == ("8", "128", "1024")
    assert several["batched"] == "1024"
    many = words(job_at("http://127.0.0.1:1", concurrency=256))
    assert (many["parallel"], many["contexts"], many["batched"]) == ("256", "32768", "8192")
    assert json.loads(many["kv_bytes"]) >= int(alone["kv_bytes"])

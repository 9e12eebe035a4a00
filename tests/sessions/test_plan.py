"""The order of blocks, the numbers of requests and their seeds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.disk.plan import Plan, PlannedMethod, warmup_numbers
from sessions.disk.records import Note, Prepared
from sessions.run.block_run import job_of
from tests.made_model import made_interpreter, made_model
from tests.sessions.workplace import Workplace, make_model, records_of, runs_of

NAMES = ["a", "b", "c", "d"]


def plan(methods: int = 4, blocks: int = 3, requests: int = 6, seed: int = 0) -> Plan:
    rows = [PlannedMethod(name=name, engine="e", environment="x") for name in NAMES[:methods]]
    return Plan(methods=rows, blocks=blocks, requests=requests, seed=seed, warmup=2)


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 40), st.integers(0, 2**31 - 1))
def test_every_method_runs_every_block_and_every_request_once(methods: int, blocks: int, more: int, seed: int) -> None:
    made = plan(methods, blocks, blocks + more, seed)
    order = made.order()
    assert len(order) == methods * blocks
    for name in NAMES[:methods]:
        own = [row for row in order if row.method == name]
        assert [row.block for row in own] == list(range(blocks))
        assert [number for row in own for number in row.requests] == list(range(blocks + more))
        sizes = [len(row.requests) for row in own]
        assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 2**31 - 1))
def test_blocks_are_interleaved_each_round_has_every_method(seed: int) -> None:
    order = plan(seed=seed).order()
    for start in range(0, len(order), 4):
        assert sorted(row.method for row in order[start : start + 4]) == NAMES
        assert {row.block for row in order[start : start + 4]} == {start // 4}


def test_the_order_is_drawn_from_the_seed_and_from_nothing_else() -> None:
    orders = {seed: [row.method for row in plan(seed=seed).order()] for seed in range(40)}
    assert orders == {seed: [row.method for row in plan(seed=seed).order()] for seed in range(40)}
    assert len({tuple(order) for order in orders.values()}) > 30
    firsts = [order[0] for order in orders.values()]
    assert set(firsts) == set(NAMES), "no method is always first"
    rounds = [tuple(order[start : start + 4]) for order in orders.values() for start in (0, 4, 8)]
    assert len(set(rounds)) > 12, "rounds of one session are drawn anew"


def test_the_order_survives_the_plan_file() -> None:
    made = plan(seed=5)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan).order() == made.order()


@pytest.mark.parametrize("method", NAMES)
def test_a_request_has_the_same_seed_and_prompt_whichever_method_runs_it(method: str) -> None:
    made = plan(seed=9)
    prepared = Prepared(
        t=0,
        model=made_model(),
        prompts=[[1, 2, 3]],
        prompt_text=None,
        prompt_template=False,
        stop_token_ids=[],
        interpreters=dict.fromkeys(NAMES, made_interpreter()),
        unavailable={},
    )
    seeds: dict[int, int] = {}
    for row in made.order():
        if row.method == method:
            job = job_of(made, made.method(method), row, prepared)
            assert job["prompts"] == [[1, 2, 3]]
            assert [each["request"] for each in job["requests"]] == [-2, -1, *row.requests]
            assert [each["warmup"] for each in job["requests"]] == [True, True] + [False] * len(row.requests)
            seeds |= {each["request"]: each["seed"] for each in job["requests"]}
    assert seeds == {number: made.request_seed(number) for number in [-2, -1, *range(6)]}
    assert len(set(seeds.values())) == len(seeds)


def test_another_plan_seed_gives_other_request_seeds() -> None:
    assert not {plan(seed=1).request_seed(n) for n in range(100)} & {plan(seed=2).request_seed(n) for n in range(100)}


def test_warmups_come_before_zero() -> None:
    assert warmup_numbers(3) == [-3, -2, -1]
    assert warmup_numbers(0) == []


def test_the_plan_is_carried_out_in_its_order(work: Workplace) -> None:
    for name in ("one", "two", "three"):
        work.method(name)
    folder = work.run("one", "two", "three", blocks=2, requests=3, warmup=1, seed=11)
    ran = [(row["method"], row["block"]) for row in runs_of(folder)]
    assert ran == [(row.method, row.block) for row in folder.plan().order()]
    assert [row["position"] for row in runs_of(folder)] == list(range(1, 7))


@pytest.mark.parametrize("spec", ["./org/good", "org/good", "~/org/good"])
def test_a_model_in_a_relative_folder_is_what_was_checked(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    here = work.home.parent
    (here / "org").mkdir()
    make_model(here / "org" / "good")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    folder = work.run(work.method("one"), model=spec)
    assert (folder.read().status, folder.plan().model) == ("finished", str(here / "org" / "good"))
    measured = next(record for record in records_of(folder) if isinstance(record, Prepared))
    assert measured.model.folder == here / "org" / "good"
    notes = [record.text for record in records_of(folder) if isinstance(record, Note)]
    said = f"org/good is the folder {here / 'org' / 'good'} here, not the Hub's repository of that name."
    assert (said in notes) is (spec == "org/good")

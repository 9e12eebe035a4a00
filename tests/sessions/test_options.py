"""The options of a run, from the command line to the plan, its file and the command that asks for it again."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sessions.device.affinity import physical_cores, shared_out
from sessions.device.devices import cpu
from sessions.disk.option_table import Option, Value, table
from sessions.disk.options import RunOptions
from sessions.disk.plan import Plan, PlannedMethod
from sessions.export.command import command_of
from sessions.planning.make import plan_of
from sessions.planning.offer import Offer, offer_on
from sessions.planning.points import is_asked
from sessions.planning.presets import PRESETS
from sessions.planning.wanted import PlanError, Wanted
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace, make_model
from tui.command_line import parser
from tui.commands.run import wanted

OPTIONS = table(RunOptions)
SMALL = {"requests": 500, "blocks": 500, "max_new_tokens": 1000, "prompt_tokens": 1000}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("options")):
        work.method("one", presets=sorted(PRESETS))
        work.method("two", reference="one", presets=["quick"])
        make_model(work.model.with_name("talks"), ["hello", "world"])
        yield work


@pytest.fixture(scope="module")
def offer(work: Workplace) -> Offer:
    return offer_on(cpu(), work.home, work.config)


def again(work: Workplace, offer: Offer, plan: Plan) -> Plan:
    """The plan that the plan's own command makes."""
    words = shlex.split(command_of(plan))
    stdin = ""
    if words[0] == "printf":
        stdin, words = words[2], words[words.index("|") + 1 :]
        if "%b" in command_of(plan)[:12]:
            stdin = stdin.replace("\\0000", "\0").replace("\\\\", "\\")
    arguments = parser().parse_args(words[1:])
    arguments.argv = words[1:]
    with patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))):
        return plan_of(wanted(arguments), work.home, offer)


def values_of(option: Option) -> st.SearchStrategy[Any]:
    if option.kind is bool:
        return st.booleans()
    if option.choices:
        return st.sampled_from(option.choices)
    assert option.least is not None
    assert option.most is not None
    most = min(option.most, SMALL.get(option.name, option.most))
    return st.integers(int(option.least), int(most)) if option.kind is int else st.floats(option.least, most)


ASKED = st.fixed_dictionaries(
    {},
    optional={
        **{option.name: values_of(option) for option in OPTIONS if option.kind is not str or option.choices},
        "preset": st.sampled_from(sorted(PRESETS)),
        "prompt": TEXT
        | TEXT.map("@".__add__)
        | st.sampled_from(["-", "--", "-x", "a\\b\0c", "@a\r\nb", "\ufeff@a", "hello " * 20_000]),
        "template": st.just(False),
        "spread": st.just(2) if len(physical_cores(shared_out().runner)) > 1 else st.nothing(),  # what there is
    },
)


@given(asked=ASKED, methods=st.lists(st.sampled_from(["one", "two"]), unique=True))
@settings(max_examples=100, deadline=None)
def test_a_plans_command_asks_for_that_plan(
    work: Workplace, offer: Offer, asked: dict[str, Value], methods: list[str]
) -> None:
    if "prompt" in asked:
        asked.pop("prompt_tokens", None)
    if "blocks" in asked or "requests" in asked:
        asked["requests"] = max(int(asked.get("requests", 1)), int(asked.get("blocks", 1)))
    if "at_most" in asked:
        asked.setdefault("until", 0.05)
    if is_asked(PRESETS[str(asked.get("preset", "quick"))].loads):
        asked.pop("spread", None)  # which a load excludes
    asked |= {"model": str(work.model.with_name("talks")), "device": "cpu"}
    try:
        plan = plan_of(Wanted(asked, methods=methods), work.home, offer)
    except PlanError as error:
        if not any(words in str(error) for words in ("turns the prompt into no tokens", "prompt is empty")):
            raise
        assume(False)
    said = again(work, offer, plan)
    assert dataclasses.replace(said, command=[]) == dataclasses.replace(plan, command=[])


LOADS: list[dict[str, Value]] = [
    {"concurrency": "1,2,4"},
    {"batch": "4", "requests": 6, "blocks": 2},
    {"rate": "0.5,2", "burstiness": "1,0.25", "warmup": 1},
    {"isl": "10,20", "osl": "4,8", "concurrency": "2", "preset": "article"},
    {"isl": "10", "osl": "8"},
    {"osl": "4,8", "prompt": "hello world"},
    {"depth": "0,16", "prompt_tokens": 8},
]


@pytest.mark.parametrize("asked", LOADS, ids=str)
def test_so_does_a_plan_with_a_load(work: Workplace, offer: Offer, asked: dict[str, Value]) -> None:
    whole = {**asked, "model": str(work.model.with_name("talks")), "device": "cpu"}
    plan = plan_of(Wanted(whole, methods=["one"]), work.home, offer)
    said = again(work, offer, plan)
    assert dataclasses.replace(said, command=[]) == dataclasses.replace(plan, command=[])


def test_points_are_every_combination_the_first_of_each_list_first(work: Workplace, offer: Offer) -> None:
    asked: dict[str, Value] = {"isl": "512,2048", "osl": "128,256", "concurrency": "8,1", "requests": 20, "blocks": 5}
    whole = {**asked, "model": str(work.model), "device": "cpu", "warmup": 2}
    plan = plan_of(Wanted(whole, methods=["one"]), work.home, offer)
    assert [(p.name, p.isl, p.osl, p.concurrency, p.requests, p.warmup) for p in plan.points] == [
        ("512/128 c8", 512, 128, 8, 32, 16),
        ("512/128 c1", 512, 128, 1, 4, 2),
        ("2048/256 c8", 2048, 256, 8, 32, 16),
        ("2048/256 c1", 2048, 256, 1, 4, 2),
    ]
    assert (plan.prompt_tokens, plan.sampling.max_new_tokens) == (2048, 256)
    first, second = (block.requests for block in plan.order()[:2])
    assert (len(first), second[0]) == (72, 72)
    parts = plan.parts(plan.order()[1])
    assert sorted(number for part in parts for number in part.timed) == second
    assert sorted(number for part in parts for number in part.warmups) == list(range(-36, 0))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"concurrency": "4", "batch": "4"}, "exclude each other"),
        ({"batch": "0"}, "--batch 0 is out of range"),
        ({"rate": "-1"}, "--rate -1 is out of range"),
        ({"burstiness": "2"}, "--burstiness goes with --rate"),
        ({"isl": "1,2", "osl": "1,2,3"}, "they pair up"),
        ({"isl": "99000", "osl": "2000"}, "do not fit"),
        ({"osl": "4", "max_new_tokens": 5}, "contradict each other"),
        ({"prompt": "a", "isl": "4"}, "exclude each other"),
        (
            {name: ",".join(map(str, range(1, 101))) for name in ("concurrency", "isl", "depth")},
            r"1,000,000 points, some .* years .* 200 at most",
        ),
    ],
)
def test_a_load_that_makes_no_sense_is_refused_in_a_sentence(
    work: Workplace, offer: Offer, asked: dict[str, Value], says: str
) -> None:
    whole = {**asked, "model": str(work.model), "device": "cpu"}
    with pytest.raises(PlanError, match=says):
        plan_of(Wanted(whole, methods=["one"]), work.home, offer)


@pytest.mark.parametrize("prompt", ["@home", "-", "--", "a\\b\0c%s\n'", "hello " * 30_000, "-v; rm -rf $HOME"])
def test_a_shell_hands_on_the_prompt_as_it_was(tmp_path: Path, prompt: str) -> None:
    told = tmp_path / "kasoku"
    told.write_text(
        f"#!{sys.executable}\nimport sys, json\n"
        "given = [a.partition('=')[2] or sys.argv[i + 1] for i, a in enumerate(sys.argv) if a.startswith('--prompt')]\n"
        "print(json.dumps(sys.stdin.read() if given == ['-'] else given[0]))\n"
    )
    told.chmod(0o700)
    command = command_of(Plan(prompt=prompt, prompt_given=True))
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["sh"], input=command, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == prompt


def test_the_command_says_the_deadlines_and_that_environments_are_created() -> None:
    plan = msgspec.json.decode(
        b'{"deadlines": {"load_s": 1234.5678901, "token_s": 0.1}, "create_environments": true}', type=Plan
    )
    words = shlex.split(command_of(plan))
    assert words[words.index("--load-deadline") + 1] == "1234.5678901"
    assert words[words.index("--token-deadline") + 1] == "0.1"
    assert "--create-environments" in words


def test_every_field_that_can_be_asked_for_is_in_the_table() -> None:
    paths = {option.path for option in OPTIONS}
    for field in dataclasses.fields(RunOptions):
        assert any(path[0] == field.name for path in paths), f"{field.name} is not an option"
    assert len({option.name for option in OPTIONS}) == len(OPTIONS) == len({option.flag for option in OPTIONS})


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.least is not None], ids=lambda o: o.name)
def test_a_plan_file_out_of_bounds_is_refused_with_the_options_sentence(option: Option) -> None:
    assert option.least is not None
    assert option.most is not None
    for value in (option.least - 1, option.most * 2 + 1, 10**9 * option.most, 10**400):
        inner: object = option.kind(value) if value < 10**300 else value
        for name in reversed(option.path):
            inner = {name: inner}
        refused = f"{option.flag} .* is out of range|Number out of range|Expected `float`"
        with pytest.raises(msgspec.ValidationError, match=refused):
            msgspec.json.decode(msgspec.json.encode(inner), type=Plan)


def test_a_plan_keeps_its_keys() -> None:
    """Those of a plan.json of version 0.1.0, where each has its place."""
    kept = Path(__file__).with_name("written_by_0_1_0") / "sessions"
    for file in kept.glob("*/plan.json"):
        old = json.loads(file.read_bytes())
        new = msgspec.to_builtins(msgspec.json.decode(file.read_bytes(), type=Plan))
        for place, method in enumerate(old.pop("methods")):
            own = json.loads(msgspec.json.encode(new["methods"][place]))
            assert {name: own[name] for name in method} == method
        assert {name: new[name] for name in old} == old


def test_a_planned_method_whose_name_is_none_of_a_file_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="regex"):
        msgspec.json.decode(b'{"name": "../up", "engine": "e", "environment": "t"}', type=PlannedMethod)


@pytest.mark.parametrize(
    ("preset", "first", "points", "more"),
    [
        ("load", "512/128 c1", 18, {}),
        ("llama-bench", "512/1", 2, {}),
        ("inferencex", "c4", 7, {"isl": "4096"}),  # the shape's context has no room for 8192
    ],
)
def test_the_presets_of_a_load_plan_its_points(
    work: Workplace, offer: Offer, preset: str, first: str, points: int, more: dict[str, Value]
) -> None:
    asked: dict[str, Value] = {"preset": preset, "model": "synthetic:llama-8b", "device": "cpu", **more}
    plan = plan_of(Wanted(asked, methods=["one"]), work.home, offer)
    assert (plan.primary.name, len(plan.points)) == (first, points)
    assert all(point.requests >= 16 for point in plan.points)
    assert plan.loads.until_saturated == (preset == "load")
    assert again(work, offer, plan).points == plan.points

"""The Session screen: one session in full."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import msgspec
import pytest

from sessions.disk.plan import Goal, Plan
from sessions.disk.records import Prepared
from sessions.disk.sampling import Sampling
from sessions.disk.store import Store
from tests.made_model import made_model
from tests.tui.conftest import DEAD, FIRST, workbench
from tests.tui.journals import make_plan, write_session
from tests.tui.screen_text import as_kept, until
from tui.read.plan_facts import plan_facts
from tui.read.session_facts import read_session
from tui.widgets.session_time_line import SessionTimeLine
from tui.words import figures


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_the_tabs_show_machine_runs_requests_and_timeline(saved: Path, size: tuple[int, int]) -> None:
    log = saved / "sessions" / FIRST / "logs" / "baseline-0.log"
    log.write_bytes(b"loading\n\x1b]0;evil\x07done\n")
    async with workbench(saved).run_test(size=size, notifications=True) as pilot:
        app = pilot.app
        app.open_session(FIRST)  # type: ignore[attr-defined]
        text = await until(pilot, lambda text: "first look · finished" in text and "status" in text, "the overview")
        await pilot.press("end")
        await until(pilot, lambda text: "NVIDIA H200" in text and "0.1.0" in text, "machine and software")
        await pilot.press("right")
        text = await until(pilot, lambda text: "in effect" in text and "block" in text, "the runs")
        screen = app.screen
        screen.query_one("#run-list").move_to_key("baseline:0:0")  # type: ignore[attr-defined]
        text = await until(pilot, lambda text: "baseline · block 1" in text, "the run")
        assert "yes: the flash kernel was seen" in text
        await pilot.press("tab", "end")
        await until(pilot, lambda text: "�]0;evil�done" in text, "the end of the log, harmless")
        await pilot.press("right", "down")
        text = await until(pilot, lambda text: "The river runs past the old mill" in text, "a request's text")
        await pilot.press("right")
        text = await until(
            pilot, lambda text: "tokens/s of each request" in text and "GPU power, W" in text, "the plots"
        )
        if size[1] > 30:
            assert "SM clock, MHz" in text
        await as_kept(f"session-timeline-{size[0]}x{size[1]}", pilot)
        line = screen.query_one(SessionTimeLine)
        whole = line.window
        assert whole[0] == 0.0
        await pilot.press("plus", "plus")
        await until(pilot, lambda text: f"of {figures.duration(whole[1])}" in text, "a part of it")
        assert line.window[1] - line.window[0] == pytest.approx(whole[1] / 4)
        await pilot.press(*["full_stop"] * 9)
        assert line.window == pytest.approx((whole[1] * 3 / 4, whole[1]))  # no farther than its end
        await pilot.press(*["comma"] * 2)
        assert line.window[0] == pytest.approx(whole[1] * 5 / 8)
        await until(pilot, lambda text: f"{line.window[0]:.4g} " in text, "where it begins")
        await pilot.press("0")
        assert line.window == whole


async def test_a_session_whose_conductor_died_is_finalised_and_shown(saved: Path) -> None:
    async with workbench(saved).run_test(size=(120, 40), notifications=True) as pilot:
        pilot.app.open_session(DEAD)  # type: ignore[attr-defined]
        await until(pilot, lambda text: "interrupted" in text, "the status")
        await pilot.press("right")
        await until(pilot, lambda text: "stopped" in text, "the block that was cut off")


async def test_a_session_that_is_not_there_is_a_sentence(saved: Path) -> None:
    async with workbench(saved).run_test(size=(120, 40), notifications=True) as pilot:
        pilot.app.open_session("20200101-000000-000000")  # type: ignore[attr-defined]
        await until(pilot, lambda text: "There is no session" in text, "the sentence")


async def test_the_plan_is_told_in_the_fields_terms_and_its_command_can_be_pasted(tmp_path: Path) -> None:
    command = ["kasoku", "run", "--prompt", "How far is the park?", "--method", "baseline"]
    plan = dataclasses.replace(make_plan(), command=command, gpu_visible=["GPU-0"], gpu_sources=["gpu0"])
    write_session(tmp_path, plan, session=FIRST)
    async with workbench(tmp_path).run_test(size=(160, 60), notifications=True) as pilot:
        pilot.app.open_session(FIRST)  # type: ignore[attr-defined]
        text = await until(pilot, lambda text: "Plan" in text and "command" in text, "the plan")
    said = {line[:21].strip(): line[21:].strip() for line in text.splitlines()}
    assert shlex.split(said["command"]) == command
    assert said["requests"] == "6 per method in 3 blocks, each a fresh process"
    assert said["sampling"] == "greedy"
    assert said["new tokens"] == "64 per request, always: EOS is ignored"
    assert said["token deadline"] == "2 min without a token in a timed request"
    for internal in ("gpu_visible", "gpu_sources", "lacking", "schema_version", "must_show", "prompt_given", "named"):
        assert internal not in text


@pytest.mark.parametrize("value", [None, [], {}, "x", 3, True, [3], {"load_s": []}, [{"name": []}]])
def test_a_plan_that_is_none_is_told_as_far_as_it_goes(value: object) -> None:
    names = [field.name for kind in (Plan, Sampling) for field in dataclasses.fields(kind)]
    for plan in (dict.fromkeys(names, value), {"sampling": dict.fromkeys(names, value)}):
        assert all(isinstance(fact.text, str) for fact in plan_facts(plan))


PREPARED = Prepared(
    t=0,
    model=made_model(),
    prompts=[],
    prompt_text=None,
    prompt_template=False,
    stop_token_ids=[],
    interpreters={},
    unavailable={},
)
PROMPT = {"prompt_text": "The ferry leaves.", "prompts": [[1, 2, 3]]}


@pytest.mark.parametrize(
    ("plan", "prepared", "said"),
    [
        ({"prompt_tokens": 3}, PROMPT, "3 tokens: a built-in text, repeated and truncated"),
        (
            {"prompt_tokens": 3},
            PROMPT | {"prompt_text": None},
            "3 random tokens: the model has no tokeniser",
        ),
        (
            {"prompt_tokens": 3},
            None,
            "3 tokens: a built-in text, repeated and truncated; random if the model has no tokeniser",
        ),
        (
            {"prompt": "A preset's text."},
            PROMPT | {"prompt_text": None},
            "3 random tokens: the model has no tokeniser",
        ),
        ({"prompt": "How far is it?"}, PROMPT | {"prompt_text": "How far is it?"}, "How far is it?"),
        ({"prompt": "How far is it?"}, None, "How far is it?"),
        ({}, PROMPT, "The ferry leaves."),
    ],
)
def test_the_prompt_is_told_as_it_was_made(
    plan: dict[str, object], prepared: dict[str, object] | None, said: str
) -> None:
    made = None if prepared is None else msgspec.structs.replace(PREPARED, **prepared)
    assert [fact.text for fact in plan_facts(plan, made) if fact.label == "prompt"] == [said]


def test_the_overview_says_what_was_measured_beyond_the_plan(home: Path) -> None:
    """The plan went on to say two blocks, and no fidelity, of a session that a round with it was added to."""
    folder = write_session(home)
    session = folder.read()
    further = Goal(blocks=session.plan.blocks + 1, since=session.plan.blocks, fidelity=True)
    folder.write(msgspec.structs.replace(session, extensions=[further]))
    facts = {fact.label: fact.text for fact in read_session(Store(home / "sessions"), folder.id).overview}
    assert facts["fidelity"] == "not measured"
    assert facts["since then"].endswith(f"extended to {further.blocks}, fidelity measured")

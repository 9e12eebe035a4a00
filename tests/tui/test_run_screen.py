"""The Run screen: the plan as it is made, and a session as it runs, ends, dies or is replayed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Select

from sessions.disk.journal import JournalWriter
from sessions.disk.option_table import table
from sessions.disk.options import RunOptions
from sessions.disk.plan import Plan
from sessions.disk.records import SessionEnded, Telemetry
from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.verdict.comparison import compare
from tests.tui.conftest import DEAD, FIRST, SECOND, workbench
from tests.tui.journals import telemetry_rows, write_session
from tests.tui.screen_text import as_kept, in_mid_run, until
from tui.screens.ask import Confirm
from tui.screens.run import RunScreen
from tui.widgets.run_form import RunForm
from tui.words import figures


@pytest.mark.parametrize("size", [(80, 24), (160, 48), (200, 60)])
async def test_a_running_session_is_shown_when_the_workbench_opens(running: Path, size: tuple[int, int]) -> None:
    async with workbench(running).run_test(size=size, notifications=True) as pilot:
        said = "それでは、近くの公園まで散歩に行ってみましょう。"
        text = await until(pilot, lambda text: in_mid_run(text) and said in text, "the request that runs")
        assert "block 3/3 · request 6/6" in text.splitlines()[0]
        assert "NO: 0 comp" in text
        assert "The river runs past the old mill" in text
        assert "335/700 W" in text
        for method in ("baseline", "flash-attention-2", "torch-compile"):
            assert re.search(rf"[✓▶] {method} .*\d", text)
        assert all(words in text for words in ("GPU 0", "GPU 1", "CPU", "RSS", "left", "tok/s", "±"))
        await until(
            pilot, lambda text: re.search(r"k +skip", text) and re.search(r"s +stop", text), "the keys of a run"
        )
        if size != (200, 60):
            await as_kept(f"run-{size[0]}x{size[1]}", pilot)


async def test_skip_names_what_runs_and_stop_asks_first_and_leaving_says_that_the_session_goes_on(
    running: Path,
) -> None:
    app = workbench(running)
    async with app.run_test(notifications=True) as pilot:
        text = await until(pilot, in_mid_run, "the request that runs")
        found = re.search(r"▶ (\S+)", text)
        assert found is not None
        skip = f"skip-{found[1]}-2"
        requests = running / "sessions" / FIRST / "requests"
        await pilot.press("s")
        await until(pilot, lambda _: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("n")
        await until(pilot, lambda _: isinstance(pilot.app.screen, RunScreen), "the run again")
        assert not requests.exists()
        await pilot.press("k")
        await until(pilot, lambda _: requests.exists() and names(requests) == [skip], "the request to skip")
        await pilot.press("s")
        await until(pilot, lambda _: isinstance(pilot.app.screen, Confirm), "the question")
        await pilot.press("y")
        await until(pilot, lambda _: names(requests) == sorted([skip, "stop"]), "the request to stop")
        await pilot.press("q")
        await pilot.pause()
    assert f"{FIRST} continues" in app.farewell
    assert app.return_code == 0


async def test_the_end_is_said_when_the_frames_are_written_and_the_form_comes_back(bare: Path) -> None:
    folder = write_session(bare, session=FIRST, ended=False)
    lock = folder.try_lock()
    assert lock is not None
    async with workbench(bare).run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, in_mid_run, "the request that runs")
        journal = JournalWriter(folder.path)
        journal.append(SessionEnded(t=2_000_000_000_000, status="finished"))
        journal.close()
        await until(
            pilot, lambda text: "saving" in text.splitlines()[0] and "Writing the frames" in text, "the closing"
        )
        os.close(lock)
        await until(pilot, lambda text: "finished" in text.splitlines()[0], "the end")
        await pilot.press("n")
        await until(pilot, lambda text: "[✓] baseline" in text, "the form")


@pytest.mark.parametrize(("size", "replay"), [((80, 24), False), ((160, 48), True)])
async def test_at_its_end_the_screen_says_what_compare_says(saved: Path, size: tuple[int, int], replay: bool) -> None:
    async with workbench(saved, watch=FIRST, replay=replay).run_test(size=size, notifications=True) as pilot:
        if replay:
            await until(pilot, lambda text: "replay" in text.splitlines()[0], "the replay")
            await pilot.press(*["plus"] * 5)
        text = await until(pilot, lambda text: "baseline: the reference" in text, "the verdicts", deadline_s=60)
        flat = " ".join(text.replace("│", " ").split())  # no-break spaces too
        for row in compare(Store(saved / "sessions"), [(FIRST, None)]).rows:
            shown = f"[│ ]*✓ (?:{row.method}|{row.method[:18]}…) "
            (line,) = [line for line in text.splitlines() if re.match(shown, line)]
            assert row.tok_s_mean is not None
            assert row.tok_s_low is not None
            assert row.tok_s_high is not None
            mean, half = figures.rate(row.tok_s_mean), figures.rate((row.tok_s_high - row.tok_s_low) / 2)
            assert f"{mean} ±{half}" in line
            assert figures.ratio(row.ratio) in line
            assert figures.yes_no(row.in_effect) in line
            if size[1] > 24:
                assert f"{row.method}: {row.verdict}" in flat


async def test_another_run_begins_without_the_verdicts_of_the_last(saved: Path) -> None:
    async with workbench(saved, watch=FIRST).run_test(size=(160, 48), notifications=True) as pilot:
        await until(pilot, lambda text: "baseline: the reference" in text, "the verdicts")
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        await screen.watch_session(Store(saved / "sessions").folder(SECOND), replay=True)
        text = await until(pilot, lambda text: "replay" in text.splitlines()[0], "the replay")
        assert "the reference" not in text


async def test_a_conductor_that_died_is_a_sentence_in_the_view(saved: Path) -> None:
    async with workbench(saved, watch=DEAD).run_test(size=(120, 30), notifications=True) as pilot:
        text = await until(pilot, lambda text: "conductor" in text, "the sentence")
        assert "conductor died early" in text
        assert "Traceback" not in text


async def test_a_gpu_that_fell_off_is_a_sentence_in_its_place(running: Path) -> None:
    gone = "the GPU is lost: it fell off the bus"
    journal = JournalWriter(running / "sessions" / FIRST)
    rows = [
        (source, metric, unit, None if source == "gpu0" else value, t, cost, gone if source == "gpu0" else status)
        for source, metric, unit, value, t, cost, status in telemetry_rows(1_999_000_000_000, 1.0)
        if metric != "temperature_c"
    ]
    journal.append(Telemetry(t=1_999_000_000_000, rows=rows))
    journal.close()
    for size in ((160, 48), (80, 24)):
        async with workbench(running).run_test(size=size, notifications=True) as pilot:
            text = await until(pilot, lambda text: gone in text, "the sentence")
            assert re.search(r"GPU 1 ", text)


async def test_a_torn_and_damaged_journal_is_shown_as_far_as_it_goes(running: Path) -> None:
    journal = SessionFolder(running / "sessions" / FIRST).journal
    with journal.open("ab") as file:
        file.write(b"\x00\xff rubbish \x1b[2J\n" + b'{"k":"tokens","t":1')
    async with workbench(running).run_test(size=(120, 30), notifications=True) as pilot:
        text = await until(pilot, in_mid_run, "the request that runs")
        assert "rubbish" not in text


async def test_a_journal_of_a_newer_kasoku_is_refused_with_a_sentence(running: Path) -> None:
    journal = SessionFolder(running / "sessions" / FIRST).journal
    journal.write_bytes(b'{"k":"header","t":1,"schema_version":99,"session":"x","realtime_ns":1}\n')
    async with workbench(running).run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda text: "newer Kasoku" in text, "the sentence")


async def test_a_session_whose_plan_is_damaged_is_a_sentence(running: Path) -> None:
    (running / "sessions" / FIRST / "plan.json").write_text("{", encoding="utf-8")
    async with workbench(running).run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda text: "plan.json" in text and "damaged" in text, "the sentence")


async def test_a_replay_can_be_sped_up_held_and_left(saved: Path) -> None:
    async with workbench(saved, watch=FIRST, replay=True).run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, lambda text: "replay ×1" in text.splitlines()[0], "the replay")
        await pilot.press("plus", "plus")
        await until(pilot, lambda text: "replay ×4" in text.splitlines()[0], "the faster replay")
        await pilot.press("space")
        await until(pilot, lambda text: "replay paused" in text.splitlines()[0], "the held replay")
        await pilot.press("space", "plus", "plus", "plus")
        await until(pilot, lambda text: "finished" in text.splitlines()[0], "the end of the replay")
        await pilot.press("n")
        await until(pilot, lambda text: "[✓] baseline" in text, "the form")


async def test_the_form_checks_the_plan_as_it_is_made(bare: Path) -> None:
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda text: "[✓] baseline" in text, "the catalogue")
        form = pilot.app.screen.query_one(RunForm)
        form.query_one("#requests").focus()
        await pilot.press("0")
        await until(pilot, lambda text: "requests 0 is out of range" in text, "the sentence about requests")
        await pilot.press("backspace", "x")
        await until(pilot, lambda text: "Requests 'x' is not a whole number." in text, "the sentence about the number")
        await pilot.press("backspace")
        form.query_one("#model").focus()
        await pilot.press(*"/nowhere/at/all")
        await until(pilot, lambda text: "/nowhere/at/all" in text and "Start (r)" in text, "the model")
        await until(pilot, lambda _: form.checked is not None and form.checked.plan is None, "no plan")
        await pilot.press("escape")
        assert form.methods.has_focus
        await pilot.press("M")
        text = await until(pilot, lambda text: "synthetic:llama-8b" in text, "the models that are there")
        assert re.search(r"smollm2-135m .* 9\d.\d MB to fetch", text)
        assert re.search(r"synthetic:llama-1b +2.15 GB +.*% +made first", text)
        await pilot.press(*"org/x")
        await until(pilot, lambda text: re.search(r"org/x +– +– +as typed", text), "what is typed, as it is")
        await pilot.press("escape")
        form.query_one("#model").focus()
        await pilot.press("down")
        await until(pilot, lambda text: "synthetic:llama-8b" in text, "the models again")
        await pilot.press(*"tiny", "down", "enter")
        plan = await until_planned(pilot, form, lambda plan: plan.model.startswith("synthetic:"))
        assert plan.model == form.model.value == "synthetic:tiny-llama"
        await until(pilot, lambda text: "unknown before a first run of these methods" in text, "what it takes")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_every_option_of_a_run_can_be_asked_for_on_the_form(bare: Path, size: tuple[int, int]) -> None:
    asked = {
        "threads": 3,
        "load_deadline_s": 77.5,
        "token_deadline_s": 8.25,
        "trust_remote_code": True,
        "aa": True,
        "create_environments": True,
        "template": False,
        "stop_at_eos": True,
        "top_k": 7,
    }
    async with workbench(bare).run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda text: "[✓] baseline" in text, "the catalogue")
        form = pilot.app.screen.query_one(RunForm)
        for option in table(RunOptions):
            if option.name.startswith("server"):
                assert not form.query(f"#{option.name}"), "half an address would be asked while it is typed"
                continue
            control = form.query_one(f"#{option.name}")
            control.focus()
            await until(pilot, partial(contains, option.label), f"{option.label} is on the screen")
            if (value := asked.get(option.name)) is None:
                continue
            if isinstance(control, Select):
                control.value = "yes" if value else "no"
            else:
                await pilot.press(*str(value))
        assert form.wanted().said == {"preset": "quick", **asked}
        plan = await until_planned(pilot, form, lambda plan: plan.aa and plan.sampling.top_k == 7)
        assert (plan.threads, plan.deadlines.load_s, plan.deadlines.token_s) == (3, 77.5, 8.25)
        assert plan.trust_remote_code
        assert [method.reference for method in plan.methods] == [None, plan.methods[0].name]


async def until_planned(pilot: Pilot[None], form: RunForm, seen: Callable[[Plan], object]) -> Plan:
    """The checked plan, once `seen` is true of it."""
    await until(pilot, lambda _: form.checked and form.checked.plan and seen(form.checked.plan), "the plan as asked")
    assert form.checked is not None
    assert form.checked.plan is not None
    return form.checked.plan


async def test_nothing_that_types_has_the_focus_at_the_start_and_a_run_that_cannot_be_is_not_started(
    bare: Path,
) -> None:
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda text: "[✓] baseline" in text, "the catalogue")
        await pilot.press("4")
        assert pilot.app.current_mode == "methods"
        await pilot.press("1")
        await until(pilot, lambda text: "[✓] baseline" in text, "the form again")
        form = pilot.app.screen.query_one(RunForm)
        form.methods.mark([])
        await pilot.press("r")
        await until(pilot, lambda text: "No method ticked" in text, "the sentence")
        assert not list(bare.glob("sessions/*/plan.json"))


def contains(part: str, text: str) -> bool:
    return part in text


def names(folder: Path) -> list[str]:
    """The names of a folder's files, in order."""
    return sorted(path.name for path in folder.iterdir())


async def test_a_key_pressed_before_the_form_is_there_is_not_lost(bare: Path) -> None:
    async with workbench(bare).run_test(size=(120, 36), notifications=True) as pilot:
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        assert screen.form.checked is None
        screen.action_models()
        await until(pilot, lambda text: "synthetic:tiny-llama" in text, "the models")

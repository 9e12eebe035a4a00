"""`kasoku calibrate`: its statistics against hand-made rounds, and the command with real processes and viewers."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from methods.base.home import CACHE
from sessions.device.affinity import physical_cores, shared_out
from sessions.disk.journal import read_journal
from sessions.disk.records import RequestEnded
from sessions.verdict import neighbours, observer_effect
from sessions.verdict.observer_effect import (
    AGAIN,
    APP,
    BARE,
    CONDITIONS,
    JOURNAL,
    RUNNER,
    SLOW_APP,
    Slot,
    drawn_order,
    effects,
)
from tests.sessions.processes import processes_of, until
from tests.sessions.workplace import KASOKU, Workplace
from tui.command_line import CALIBRATED_PARTS
from tui.commands.calibrate import PARTS, table

two_cores = pytest.mark.skipif(
    len(physical_cores(shared_out().runner)) < 2, reason="each neighbour takes a core of its own"
)


def stopped(work: Workplace) -> list[psutil.Process]:
    """What was stopped by signal: viewers of conditions that are not the present one, neighbours that rest."""
    found = []
    for each in processes_of(work.home):
        with contextlib.suppress(psutil.NoSuchProcess):  # others come and go meanwhile
            found += [each] if each.status() == psutil.STATUS_STOPPED else []
    return found


def rounds(cost: dict[str, float], drift: float, count: int) -> list[Slot]:
    """Rounds of a loop of 100 tokens/s that gets slower by `drift` from request to request, on a log scale."""
    slots, passed = [], 0
    for number in range(count):
        for condition in drawn_order(list(cost), seed=number):
            slots.append(Slot(number, condition, 100 * (1 - cost[condition]) * math.exp(-drift * passed)))
            passed += 1
    return slots


def test_the_order_of_a_round_is_drawn_and_mirrored() -> None:
    orders = {tuple(drawn_order(CONDITIONS, seed)) for seed in range(20)}
    assert len(orders) > 10
    for order in orders:
        assert order == order[::-1]
        assert sorted(order) == sorted([*CONDITIONS, *CONDITIONS])


def test_a_steady_drift_does_not_reach_the_estimate() -> None:
    found = {effect.condition: effect for effect in effects(rounds({BARE: 0.0, AGAIN: 0.0, RUNNER: 0.02}, 0.001, 8))}
    assert found[RUNNER].cost == pytest.approx(0.02)
    assert found[AGAIN].cost == pytest.approx(0.0, abs=1e-12)
    assert found[BARE].cost == 0.0
    assert found[RUNNER].rounds == 8


def test_the_interval_is_students_t_on_the_rounds_log_ratios() -> None:
    values = [98.0, 97.0, 99.5]
    alone = (BARE, 100.0), (AGAIN, 100.0)
    slots = [Slot(n, c, v) for n, value in enumerate(values) for c, v in (*alone, (RUNNER, value)) for _ in "ab"]
    effect = effects(slots)[2]
    logs = [math.log(value / 100) for value in values]
    mean = sum(logs) / 3
    error = math.sqrt(sum((log - mean) ** 2 for log in logs) / 2 / 3)
    assert effect.cost == pytest.approx(1 - math.exp(mean))
    assert effect.cost_low == pytest.approx(1 - math.exp(mean + 4.302653 * error), rel=1e-6)
    assert effect.cost_high == pytest.approx(1 - math.exp(mean - 4.302653 * error), rel=1e-6)


def test_a_condition_is_held_against_all_bare_requests_and_the_bare_ones_against_each_other() -> None:
    values = [(BARE, 100.0), (AGAIN, 104.0), (RUNNER, 101.0)]
    slots = [Slot(number, condition, value) for number in range(3) for condition, value in values for _ in "ab"]
    cost = {effect.condition: effect.cost for effect in effects(slots)}
    assert cost == pytest.approx({BARE: 0.0, AGAIN: -0.04, RUNNER: 1 - 101 / math.sqrt(100 * 104)})


def test_a_round_that_lacks_a_request_does_not_count() -> None:
    slots = rounds({BARE: 0.0, AGAIN: 0.0, RUNNER: 0.1}, 0.0, 4)
    whole = effects(slots)[-1]
    torn = effects([slot for place, slot in enumerate(slots) if place != 0])
    assert whole.rounds == 4
    assert {effect.rounds for effect in torn} == {3}


def test_a_damaged_store_of_calibrations_is_an_empty_one(work: Workplace) -> None:
    (work.home / CACHE).mkdir(exist_ok=True)
    (work.home / CACHE / "observer-effects.json").write_text("{]")
    assert observer_effect.known(work.home) == {}


def test_calibrate_measures_every_condition_keeps_the_result_and_leaves_nothing_behind(work: Workplace) -> None:
    work.method("steady", rate=400.0)
    arguments = ("calibrate", "steady", "--blocks", "2", "--rounds", "2", "--max-new-tokens", "40", "--json")
    said = work.kasoku(*arguments, "--model", str(work.model), "--device", "cpu")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert [effect["condition"] for effect in told["effects"]] == [each for each in CONDITIONS if each != SLOW_APP]
    for effect in told["effects"]:
        assert 0 < effect["tok_s_median"] < 400, "each token comes when it is due or later"
        assert effect["rounds"] == 4
        assert effect["cost_low"] <= effect["cost"] <= effect["cost_high"]
    assert told["app_cpu_percent"] > 0
    assert told["machine"]["cpu_model"]
    (kept,) = observer_effect.known(work.home).values()
    assert kept.method == "steady"
    assert kept.effect(JOURNAL) is not None
    assert kept.effect(APP) is not None
    assert effects(kept.slots) == kept.effects
    again = kept.effect(AGAIN)
    assert again is not None
    assert again.cost_low is not None
    assert kept.resolution is not None
    assert kept.resolution >= abs(again.cost_low)
    assert not list((work.home / CACHE / "calibrations").iterdir())
    assert not (work.home / "sessions").exists() or not list((work.home / "sessions").iterdir())
    assert not processes_of(work.home)


def test_only_the_parts_that_were_asked_for_take_rounds(work: Workplace) -> None:
    work.method("steady", rate=400.0)
    arguments = ("calibrate", "steady", "--blocks", "1", "--rounds", "2", "--max-new-tokens", "20", "--json")
    said = work.kasoku(*arguments, "--only", "app", "--only", "runner", "--model", str(work.model), "--device", "cpu")
    assert said.code == 0, said.err
    assert {effect["condition"] for effect in json.loads(said.out)["effects"]} == {BARE, AGAIN, RUNNER, APP}
    (kept,) = observer_effect.known(work.home).values()
    assert [len([slot for slot in kept.slots if slot.condition == each]) for each in (BARE, RUNNER, APP)] == [4, 4, 4]
    assert tuple(PARTS) == CALIBRATED_PARTS
    refused = work.kasoku(*arguments, "--only", "everything")
    assert refused.code == 2
    assert "choose from" in refused.err


@pytest.mark.engines
@two_cores
def test_neighbours_are_at_work_beside_every_other_request_and_what_they_cost_is_seen(
    work: Workplace, tmp_path: Path
) -> None:
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    work.method("sharing", rate=200.0, crowd=str(crowd))
    arguments = ("calibrate", "sharing", "--blocks", "1", "--rounds", "3", "--max-new-tokens", "60", "--warmup", "1")
    said = work.kasoku(*arguments, "--neighbours", "2", "--json", "--model", str(work.model), "--device", "cpu")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert (told["lanes"], told["processes"]) == (2, 1)
    cost = {effect["condition"]: effect["cost"] for effect in told["effects"]}
    assert tuple(cost) == neighbours.CONDITIONS
    assert cost[neighbours.BESIDE] > 0.25, "two share the rate of one"
    assert len(list(crowd.iterdir())) == 2
    (kept,) = neighbours.known(work.home).values()
    assert json.loads(msgspec.json.encode(kept)) == told
    assert effects(kept.slots, neighbours.CONDITIONS) == kept.effects
    assert not processes_of(work.home)
    assert not list((work.home / CACHE / "calibrations").iterdir())


@pytest.mark.engines
@two_cores
def test_a_neighbour_that_fails_ends_it_with_a_sentence(work: Workplace, tmp_path: Path) -> None:
    work.method("leaving", rate=400.0, fault="leave", request=2, once=str(tmp_path / "left"))  # they begin first
    arguments = ("calibrate", "leaving", "--neighbours", "2", "--rounds", "3", "--model", str(work.model))
    said = work.kasoku(*arguments, "--device", "cpu", "--max-new-tokens", "40")
    assert said.code == 1
    assert "A neighbour failed: The runner exited with status 7" in said.err
    assert not processes_of(work.home)
    assert neighbours.known(work.home) == {}


@pytest.mark.engines
@two_cores
def test_one_that_is_killed_leaves_no_neighbour_that_rests(work: Workplace) -> None:
    work.method("steady", rate=400.0)
    arguments = ("calibrate", "steady", "--neighbours", "2", "--rounds", "99", "--max-new-tokens", "40")
    command = [str(KASOKU), *arguments, "--model", str(work.model), "--device", "cpu"]
    process = psutil.Popen(command, stderr=subprocess.DEVNULL)
    until(lambda: stopped(work), "a neighbour rests")
    process.kill()
    process.wait()
    until(lambda: not processes_of(work.home), "nothing of it is left running", 60)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (("--neighbours", "1"), "--neighbours 1: give 2 to 64 rounds at once."),
        (("--neighbours", "2", "--only", "app"), "--neighbours goes with neither --only nor --concurrency"),
        (("--neighbours", "2", "--concurrency", "4"), "--neighbours goes with neither --only nor --concurrency"),
        (("--neighbours", "64", "--device", "cpu"), "--spread 64: there"),
    ],
)
def test_neighbours_that_cannot_be_are_refused_before_anything_starts(
    work: Workplace, said: Sequence[str], sentence: str
) -> None:
    work.method("steady")
    refused = work.command("calibrate", "steady", *said, "--model", str(work.model))
    assert refused.code == 2
    assert sentence in refused.err


@pytest.mark.engines
def test_under_a_load_a_condition_is_a_closed_loop_of_its_own(work: Workplace) -> None:
    work.method("many", serves=True, rate=200.0)
    first = ("calibrate", "many", "--blocks", "1", "--rounds", "3", "--max-new-tokens", "20", "--json")
    arguments = (*first, "--model", str(work.model), "--device", "cpu", "--only", "viewer", "--concurrency", "4")
    said = work.kasoku(*arguments)
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert told["concurrency"] == 4
    assert {effect["condition"]: effect["rounds"] for effect in told["effects"]} == {BARE: 3, AGAIN: 3, JOURNAL: 3}
    for effect in told["effects"]:
        assert 200 < effect["tok_s_median"] < 800, "each of the four comes when it is due or later"
    (kept,) = observer_effect.known(work.home).values()
    assert len(kept.slots) == 3 * 2 * 3
    shown = table(kept)
    assert shown[2] == "a rate is of 8 requests together, 4 at a time, from first to last token"
    assert [row.split("  ")[0] for row in shown[4:7]] == [BARE, AGAIN, JOURNAL]
    assert shown[4].split()[1:] == [f"{told['effects'][0]['tok_s_median']:.2f}", "3"]
    assert shown[-1].startswith("kept, and quoted with comparisons: measuring costs")
    for refused, reason in (("1", "give 2 to 4096"), ("5000", "give 2 to 4096")):
        again = work.kasoku(*arguments[:-1], refused)
        assert (again.code, reason in again.err) == (2, True)
    many = work.kasoku(*arguments, "--rounds", "200")
    assert many.code == 2
    assert "1000 at most" in many.err


def test_one_that_is_killed_leaves_no_viewer_and_the_next_takes_its_files_away(work: Workplace) -> None:
    work.method("steady", rate=400.0)
    arguments = ("calibrate", "steady", "--blocks", "1", "--max-new-tokens", "40", "--model", str(work.model))

    process = psutil.Popen([str(KASOKU), *arguments, "--rounds", "99"], stderr=subprocess.DEVNULL)
    until(lambda: stopped(work), "a viewer rests")
    process.kill()
    process.wait()
    until(lambda: not processes_of(work.home), "nothing of it is left running", 20)
    assert list((work.home / CACHE / "calibrations").iterdir())
    said = work.kasoku(*arguments, "--rounds", "1")
    assert said.code == 0, said.err
    assert "too few rounds: at least 3 needed" in said.out
    assert not list((work.home / CACHE / "calibrations").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_interrupted_keeps_its_whole_rounds(work: Workplace, number: signal.Signals) -> None:
    work.method("steady", rate=400.0)
    arguments = ["calibrate", "steady", "--blocks", "1", "--rounds", "99", "--max-new-tokens", "20", "--only", "viewer"]

    def two_rounds_are_over() -> bool:
        """A round is six requests, and the journal has those with a viewer."""
        journals = (work.home / CACHE / "calibrations").rglob("journal.ndjson")
        ended = [each for path in journals for each in read_journal(path) if isinstance(each, RequestEnded)]
        return any(each.request >= 12 for each in ended)

    command = [str(KASOKU), *arguments, "--model", str(work.model), "--json"]
    with psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(two_rounds_are_over, "two rounds are over")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Stopped before all 99 rounds; completed ones are kept." in err
    assert b"Traceback" not in err
    (kept,) = observer_effect.known(work.home).values()
    assert json.loads(msgspec.json.encode(kept)) == json.loads(out)
    assert {effect.condition for effect in kept.effects} == {BARE, AGAIN, JOURNAL}
    counts = {effect.rounds for effect in kept.effects}
    assert 2 <= min(counts) <= max(counts) <= min(counts) + 1 < 99, "the last may lack a request of one condition"
    assert kept.processes == 1
    assert not processes_of(work.home)
    assert not list((work.home / CACHE / "calibrations").iterdir())


def test_a_method_that_fails_is_a_sentence(work: Workplace) -> None:
    work.method("broken", fault="exception", at="load")
    said = work.kasoku("calibrate", "broken", "--blocks", "1", "--rounds", "3", "--model", str(work.model))
    assert said.code == 1
    assert "scripted failure" in said.err
    assert "Traceback" not in said.err
    assert not processes_of(work.home)


def test_an_unknown_method_is_refused_before_anything_starts(work: Workplace) -> None:
    said = work.command("calibrate", "basline")
    assert said.code == 2
    assert "baseline" in said.err
    said = work.command("calibrate", "baseline", "--rounds", "0")
    assert said.code == 2
    assert "--rounds 0 is too few" in said.err

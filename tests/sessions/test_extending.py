"""More rounds for a session that has ended: numbered on, of the same prompt, weights and versions, and again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from sessions.disk.extension import Extension
from sessions.disk.plan import Goal
from sessions.disk.records import SCHEMA_VERSION, BlockStarted, GoalSet, Header, Look, Prepared
from sessions.disk.session_folder import SessionFolder
from sessions.run.launch import extend, missing
from tests.sessions.processes import until
from tests.sessions.soundness import assert_completed, assert_sound
from tests.sessions.victims import VICTIMS, struck_while_live
from tests.sessions.workplace import Said, Workplace, assert_nothing_left, records_of, runs_of

FAST = {"requests": 2, "blocks": 2, "max_new_tokens": 8}


def methods(work: Workplace) -> tuple[str, str]:
    return work.method("one", rate=500.0), work.method("two", reference="one", rate=900.0)


def extended(work: Workplace, folder: SessionFolder, **asked: object) -> Goal:
    goal = extend(folder, Extension(**asked), work.home)  # type: ignore[arg-type]
    assert work.finished(folder) == "finished", folder.read().error
    return goal


def test_a_method_that_was_done_is_judged_anew_and_makes_up_for_no_earlier_round(work: Workplace) -> None:
    names = (*methods(work), work.method("far", reference="one", rate=3_000.0))
    folder = work.run(*names, blocks=6, requests=12, until=0.5, at_most=120.0, max_new_tokens=8)
    first = [record for record in records_of(folder) if isinstance(record, Look)]
    assert first, "it was looked at"
    rounds = max(row["block"] for row in runs_of(folder)) + 1
    goal = extended(work, folder, blocks=2, more=True)
    assert goal == Goal(blocks=rounds + 2, since=rounds)
    blocks = {name: sorted(row["block"] for row in runs_of(folder) if row["method"] == name) for name in names}
    assert all(own[-2:] == [rounds, rounds + 1] for own in blocks.values())
    assert missing(folder) == []


def test_an_extension_that_was_cut_off_before_its_first_line_is_gone_on_with(work: Workplace) -> None:
    folder = work.run(*methods(work), **FAST)
    goal = Goal(blocks=4, until=0.001, at_most=10.0, since=2)
    session = json.loads((folder.path / "session.json").read_bytes())
    session |= {"status": "preparing", "extensions": [{"blocks": 4, "until": 0.001, "at_most": 10.0, "since": 2}]}
    (folder.path / "session.json").write_text(json.dumps(session))
    assert work.finished(folder) == "interrupted"
    assert missing(folder)
    work.resume(folder)
    assert (folder.read().status, folder.read().goal) == ("finished", goal)
    assert max(row["block"] for row in runs_of(folder)) >= 2
    assert missing(folder) == []


def test_kills_while_it_is_extended_leave_a_session_that_is_resumed_and_extended_again(work: Workplace) -> None:
    folder = work.run(work.method("one", rate=40.0), **FAST)
    for rounds, victim in enumerate((name for name in VICTIMS if name != "preparation"), FAST["blocks"]):
        extend(folder, Extension(blocks=1, more=True), work.home)
        begun = blocks_begun(folder)
        until(lambda begun=begun: blocks_begun(folder) > begun or not folder.is_live(), "a new block begins")  # type: ignore[misc]
        assert struck_while_live(folder, victim, signal.SIGKILL) is not None, victim
        work.finished(folder)
        assert_nothing_left(folder)
        assert work.command("show", folder.id).code == 0
        assert_sound(folder)
        work.resume(folder)
        assert folder.read().goal == Goal(blocks=rounds + 1, since=rounds), victim
        assert_completed(folder)
    assert extended(work, folder, blocks=1, more=True) == Goal(blocks=6, since=5)
    assert_completed(folder)
    assert_sound(folder)


def blocks_begun(folder: SessionFolder) -> int:
    return sum(isinstance(record, BlockStarted) for record in records_of(folder))


def test_it_is_refused_after_its_environment_was_upgraded(work: Workplace, tmp_path: Path) -> None:
    described = work.config / "environments" / "plain.toml"
    python = described.read_text()

    def have(version: str) -> None:
        facts = tmp_path / version / f"torch-{version}.dist-info"
        facts.mkdir(parents=True, exist_ok=True)
        (facts / "METADATA").write_text(f"Name: torch\nVersion: {version}\n")
        described.write_text(python + f"paths = [{json.dumps(str(tmp_path / version))}]\n")

    have("2.12.0")
    folder = work.run(work.method("one", rate=500.0))
    have("2.13.0")
    said = work.command("resume", folder.id, "--blocks", "+1")
    assert said.code == 1
    sentence = "The session's environment plain had torch 2.12.0 and now has 2.13.0: start a new session"
    assert sentence in folder.read().error
    assert sentence in " ".join(said.out.split())
    assert [row["block"] for row in runs_of(folder)] == [0]
    have("2.12.0")
    work.resume(folder)
    assert_completed(folder)


def refused(said: Said, sentence: str) -> None:
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said.out + said.err
    assert sentence in said.err


BAD = {
    ("--blocks", "0"): "--blocks 0 is out of range: use a whole number from 1",
    ("--blocks", "+0"): "--blocks 0 is out of range",
    ("--blocks", "-3"): "--blocks -3 is out of range",
    ("--blocks", "ten"): "--blocks: 'ten' is not a whole number; +10 is ten more.",
    ("--blocks", "2"): "--blocks 2 asks for nothing new: it has 2 blocks a method already; --blocks +10 asks for ten",
    ("--blocks", "1"): "--blocks 1 asks for nothing new",
    ("--blocks", "+999"): "1,001 blocks are too many: it has 2 blocks a method already, and 1,000 are the most.",
    ("--until", "0%"): "--until 0% is out of range: use a percentage from 0.1% to 50%",
    ("--until", "abc"): "--until: 'abc' is not a percentage such as 5%",
    ("--until", "3%", "--at-most", "1s"): "--at-most 1 s is out of range: use a duration from 10 s",
    ("--at-most", "30m"): "--at-most goes with --until",
    ("--blocks", "+3", "--at-most", "30m"): "--at-most goes with --until",
    ("--until", "3%", "--blocks", "2"): "--blocks 2 asks for nothing new",
}


def test_what_is_known_well_enough_already_is_refused(work: Workplace) -> None:
    paced = work.method("one", rate=100.0, as_due=True), work.method("two", reference="one", rate=180.0, as_due=True)
    folder = work.run(*paced, blocks=3, requests=3, max_new_tokens=8)
    refused(work.command("resume", folder.id, "--until", "50%"), "--until 50% asks for nothing new of")


def test_a_running_a_foreign_and_a_half_deleted_session_are_refused(work: Workplace) -> None:
    folder = work.launch(work.method("long", rate=20.0), max_new_tokens=2_000)
    until(lambda: any(isinstance(record, Header) for record in records_of(folder)), "it has begun")
    refused(work.command("resume", folder.id, "--blocks", "+1"), f"{folder.id} is running already: `kasoku attach")
    folder.ask("stop")
    work.finished(folder)
    own = (work.home / "plans").rename(work.home / "elsewhere")
    refused(work.command("resume", folder.id, "--blocks", "+1"), f"{folder.id} was not started here")
    own.rename(work.home / "plans")
    newer = folder.journal.read_bytes()
    folder.journal.write_bytes(newer.replace(b'"schema_version":%d' % SCHEMA_VERSION, b'"schema_version":99'))
    refused(work.command("resume", folder.id, "--blocks", "+1"), "written by a newer Kasoku")
    folder.journal.unlink()
    refused(work.command("resume", folder.id, "--blocks", "+1"), f"{folder.id} has no journal.ndjson")
    (folder.path / "plan.json").unlink()
    refused(work.command("resume", folder.id, "--blocks", "+1"), f"{folder.id} was not started here")
    (folder.path / "session.json").unlink()
    refused(work.command("resume", folder.id, "--blocks", "+1"), f"{folder.id} has no session.json")


def assert_makes_no_sense(work: Workplace, folder: SessionFolder) -> None:
    """Each of BAD is refused and changes nothing of a session of FAST."""
    before = (folder.path / "session.json").read_bytes()
    for arguments, sentence in BAD.items():
        refused(work.command("resume", folder.id, *arguments), sentence)
    assert (folder.path / "session.json").read_bytes() == before
    assert not folder.is_live()


def as_of_another_boot(folder: SessionFolder, later_ns: int) -> None:
    """Rewrite the journal as if it came from a machine that had been up for longer, on the day before."""

    def moved(line: dict[str, Any]) -> dict[str, Any]:
        line["t"] += later_ns
        if line["k"] == "header":
            line |= {"boot_id": "another", "realtime_ns": line["realtime_ns"] - 86_400 * 10**9}
        if line["k"] == "tokens":
            line["times"] = [t + later_ns for t in line["times"]]
        if line["k"] == "telemetry":
            line["rows"] = [[*row[:4], row[4] + later_ns, *row[5:]] for row in line["rows"]]
        return line

    lines = [json.dumps(moved(json.loads(line))) for line in folder.journal.read_text().splitlines()]
    folder.journal.write_text("\n".join(lines) + "\n")


def test_rounds_are_added_after_a_restart_and_again_and_numbered_on_and_nothing_else_changes(
    work: Workplace, tmp_path: Path
) -> None:
    folder = work.run(*methods(work), **FAST)
    assert_makes_no_sense(work, folder)
    as_of_another_boot(folder, 10**18)
    before = (folder.path / "plan.json").read_bytes()
    said = work.command("resume", folder.id, "--blocks", "+2")
    assert said.code == 0, said.err
    assert extended(work, folder, blocks=5) == Goal(blocks=5, since=4)
    plan, session = folder.plan(), folder.read()
    assert (folder.path / "plan.json").read_bytes() == before
    assert (session.extensions, session.looked_at) == ([Goal(blocks=4, since=2), Goal(blocks=5, since=4)], True)
    records = records_of(folder)
    begun = [(record.method, record.block) for record in records if isinstance(record, BlockStarted)]
    assert begun == [(row.method, row.block) for row in plan.order(session.goals)]
    assert begun[:4] == [(row.method, row.block) for row in plan.order()], "the plan's own come first, once"
    assert len({tuple(map(tuple, record.prompts)) for record in records if isinstance(record, Prepared)}) == 1
    goals = [(record.extension, record.blocks, record.since) for record in records if isinstance(record, GoalSet)]
    assert goals == [(0, 2, 0), (1, 4, 2), (2, 5, 4)]
    assert [record.rounds for record in records if isinstance(record, Look)] == [2, 4], "each extension is a look"
    assert [stretch.rounds for stretch in session.stretches] == [(0, 1), (2, 3), (4, 4)]
    assert session.took_s is not None
    assert session.took_s < 120.0, "not the day between, nor the years of its clock"
    rows = runs_of(folder)
    assert [(row["stretch"], row["block"]) for row in rows] == [
        (0, 0), (0, 0), (0, 1), (0, 1), (1, 2), (1, 2), (1, 3), (1, 3), (2, 4), (2, 4),
    ]  # fmt: skip
    assert rows[0]["started_ns"] > rows[-1]["started_ns"], "the clock did restart"
    assert_completed(folder)
    assert_sound(folder)
    for command in (("compare", folder.id), ("show", folder.id)):
        said = work.command(*command)
        assert said.code == 0, said.err
        assert "the machine was restarted before round 3" in " ".join(said.out.split())
    page = tmp_path / "page.md"
    assert work.command("report", folder.id, "--out", str(page)).code == 0
    assert "rounds 1–2 on" in page.read_text()

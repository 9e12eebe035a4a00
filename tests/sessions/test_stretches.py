"""A session whose machine was restarted in between: each stretch has its own clock, and nothing joins two of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from probes.machine import Machine
from sessions.close.session_end import close_session
from sessions.disk.journal import JournalWriter
from sessions.disk.plan import Goal, Plan, PlannedMethod
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    Header,
    MachineSeen,
    RequestEnded,
    RequestStarted,
    Telemetry,
    Tokens,
)
from sessions.disk.session_folder import SessionFile, SessionFolder, Stretch, create
from sessions.disk.store import Store
from sessions.export.report import make_report
from sessions.frames.counting import with_stretch
from sessions.frames.timeline import Span, spans
from sessions.verdict.comparison import compare
from sessions.verdict.stretches import stretches_told
from tests.sessions.workplace import Workplace
from tui.print.report_page import page
from tui.read.comparison_series import pick_series
from tui.read.session_facts import read_session

SECOND = 1_000_000_000
DAY_S = 86_400
NOON = 1_796_040_000  # 2026-11-30 12:00 UTC
BLOCK_S = 20
PLAN = Plan(
    methods=[
        PlannedMethod(name="base", engine="e", environment="t"),
        PlannedMethod(name="fast", engine="e", environment="t", reference="base"),
    ],
    requests=3,
    blocks=3,
    gpu_sources=["gpu0"],
)
USED = {"base": 3e9, "fast": 7e9}
RATE = {"base": 10.0, "fast": 20.0}


def at(second: float) -> int:
    return int(second * SECOND)


def stretch(
    first: int, rounds: int, begun_s: float, day: int, boot: str, driver: str, used: float
) -> Iterator[AnyRecord]:
    """Rounds of both methods from that second of the clock on; `used` GPU memory is in use besides."""
    yield Header(
        t=at(begun_s),
        schema_version=2,
        session="s",
        realtime_ns=at(NOON + day * DAY_S),
        boot_id=boot,
        resumed=first > 0,
    )
    machine = Machine(cpu_model="CPU", cores_logical=8, gpu_driver=driver)
    yield MachineSeen(t=at(begun_s + 0.5), machine=machine, software={}, gpus=["gpu0"], idle_w=50.0)
    clock = begun_s + 1
    for block in range(first, first + rounds):
        for name in ("base", "fast"):
            yield from one_block(name, block, clock, used)
            clock += BLOCK_S + 1


def one_block(name: str, block: int, begun_s: float, used: float) -> Iterator[AnyRecord]:
    where: dict[str, Any] = {"method": name, "block": block}
    yield BlockStarted(t=at(begun_s), position=1, of=6, **where)
    for tenth in range(BLOCK_S * 10):
        now = begun_s + tenth / 10
        own = USED[name] if tenth > 20 else 0.0
        yield Telemetry(
            t=at(now),
            rows=[
                ("gpu0", "memory_used_bytes", "bytes", used + own, at(now), 5.0, "ok"),
                ("gpu0", "power_w", "watt", 200.0, at(now), 5.0, "ok"),
                ("gpu0", "energy_j", "joule", 1e6 * used + 200.0 * now, at(now), 5.0, "ok"),
            ],
        )
        if tenth == 15:
            yield BlockPhase(t=at(now), phase="load", **where)
    start = begun_s + 5
    times = [at(start + (index + 1) / RATE[name]) for index in range(120)]
    yield RequestStarted(t=at(start), request=block, **where)
    yield Tokens(t=times[-1], request=block, index=0, times=times, ids=[1] * 120, **where)
    yield RequestEnded(t=times[-1], request=block, finish="length", output_tokens=120, **where)
    yield BlockEnded(t=at(begun_s + BLOCK_S), status="ok", **where)


@pytest.fixture(autouse=True)
def days_of_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as context:
        context.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def twice_extended(home: Path) -> SessionFolder:
    """Three rounds, two more a day later after a restart, and one on the third day with another driver: the clocks of
    all three overlap."""
    folder, lock = create(home / "sessions", PLAN)
    os.close(lock)
    journal = JournalWriter(folder.path)
    for record in (
        *stretch(0, 3, 500.0, 0, "boot a", "550.1", 1e9),
        *stretch(3, 2, 490.0, 1, "boot b", "550.1", 2e9),
        *stretch(5, 1, 530.0, 2, "boot c", "560.2", 4e9),
    ):
        journal.append(record)
    journal.close()
    extensions = [Goal(blocks=5, since=3), Goal(blocks=6, since=5)]
    folder.write(msgspec.structs.replace(folder.read(), extensions=extensions))
    close_session(folder, "finished")
    assert folder.read().error == ""
    return folder


def test_what_is_read_by_time_is_of_the_blocks_own_stretch(twice_extended: SessionFolder) -> None:
    runs = pl.read_parquet(twice_extended.frame("runs"))
    requests = pl.read_parquet(twice_extended.frame("requests"))
    telemetry = pl.read_parquet(twice_extended.frame("telemetry"))
    assert runs.select("block", "stretch").unique().sort("block").rows() == [
        (0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2),
    ]  # fmt: skip
    assert {row["peak_vram_bytes"] for row in runs.to_dicts() if row["method"] == "base"} == {3_000_000_000}
    assert {row["peak_vram_bytes"] for row in runs.to_dicts() if row["method"] == "fast"} == {7_000_000_000}
    assert runs["power_integral_j"].to_list() == pytest.approx([200.0 * BLOCK_S] * 12, rel=0.01)
    assert [row["energy_j"] for row in requests.to_dicts()] == pytest.approx(
        [200.0 * row["e2e_s"] for row in requests.to_dicts()], rel=0.001
    )
    assert requests["stretch"].to_list() == runs["stretch"].to_list(), "in the order in which they ran"
    assert telemetry["stretch"].is_sorted()
    assert not any("gap" in flag for flags in runs["flags"].to_list() for flag in flags)


def test_curves_lay_the_stretches_end_to_end(twice_extended: SessionFolder, home: Path) -> None:
    store = Store(home / "sessions")
    facts = read_session(store, twice_extended.id)
    measured = 2 * 6 * BLOCK_S + (5 + 3 + 1) * 1  # and a second between two blocks
    for curve in facts.curves.values():
        assert all(earlier < later for earlier, later in pairwise(curve.seconds))
        assert curve.seconds[-1] == pytest.approx(measured, abs=0.2)
    for laps in facts.laps.values():
        assert len(laps) == 6
        assert all(earlier.start_s < earlier.end_s <= later.start_s for earlier, later in pairwise(laps))
    assert len(facts.blocks) == 12
    assert max(span.end_s or 0 for span in facts.blocks) == pytest.approx(measured, abs=0.2)
    last = pick_series(store, twice_extended.id, "fast")
    assert max(last.memory.values) == 11e9, "the last block is the last stretch's, whatever its clock says"
    assert last.memory.seconds[-1] == pytest.approx(BLOCK_S, abs=0.2)
    took = facts.session.took_s
    assert took == pytest.approx(measured + 3, abs=0.1), "without the days between"


def test_comparison_show_and_report_say_of_which_days_and_states_the_rounds_are(
    twice_extended: SessionFolder, home: Path
) -> None:
    sentence = stretches_told(twice_extended.read())
    assert sentence == (
        "rounds 1–3 on 2026-11-30, 4–5 on 2026-12-01, 6 on 2026-12-02; the machine was restarted before round 4;"
        " the machine was restarted before round 6; from round 6 on GPU driver was 550.1, is 560.2"
    )
    store = Store(home / "sessions")
    comparison = compare(store, [(twice_extended.id, None)])
    assert comparison.stretches == (f"{twice_extended.id}: {sentence}",)
    assert {row.blocks for row in comparison.rows} == {6}
    for command in (("show", twice_extended.id), ("compare", twice_extended.id)):
        said = Workplace.command(*command)
        assert (said.code, said.err) == (0, "")
        assert "rounds 1–3 on 2026-11-30" in " ".join(said.out.split())
    for form in ("html", "md"):
        assert "4–5 on 2026-12-01" in page(make_report(store, [twice_extended.id]), form)


def test_one_stretch_or_one_day_needs_no_word() -> None:
    noon = Stretch(began_ns=at(NOON), seconds=60.0, boot_id="a", rounds=(0, 2))
    session = SessionFile(id="s", status="finished", plan=PLAN)
    later = msgspec.structs.replace(noon, began_ns=at(NOON + 3600), rounds=(3, 4))
    for stretches in ([], [noon], [noon, later], [msgspec.structs.replace(noon, rounds=None), later]):
        assert stretches_told(msgspec.structs.replace(session, stretches=stretches)) == ""
    again = msgspec.structs.replace(later, boot_id="b")
    said = stretches_told(msgspec.structs.replace(session, stretches=[noon, again]))
    assert said == ("rounds 1–3 on 2026-11-30 12:00, 4–5 on 2026-11-30 13:00; the machine was restarted before round 4")


def test_frames_of_before_are_one_stretch() -> None:
    runs = pl.DataFrame({"stretch": [None, None], "started_ns": [5, 30], "ended_ns": [20, None]}).with_columns(
        pl.col("stretch").cast(pl.Int64)
    )
    assert spans(runs) == [Span(0, 5, 20)]
    assert with_stretch(runs)["stretch"].to_list() == [0, 0]

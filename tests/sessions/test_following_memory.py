"""What a follower holds does not grow with the journal."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

from sessions.disk.journal import JournalWriter
from sessions.disk.session_folder import create
from sessions.watch.following import Follower
from tests.tui.journals import METHODS, Script, make_plan

FIRST, TIMES = 400, 8  # records before the first look, and how many times as many in the end
ALLOWED_BYTES = 64 << 10


def test_a_long_journal_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    plan = make_plan(METHODS[:2], requests=600, blocks=1, tokens=20)
    folder, _ = create(tmp_path / "sessions", plan)
    records = list(Script(plan, folder.id, speeds=dict.fromkeys(METHODS, 500.0)).records())
    assert len(records) > FIRST * TIMES
    journal = JournalWriter(folder.path)
    follower = Follower(folder)
    sizes = []
    tracemalloc.start()
    try:
        for begin in range(0, FIRST * TIMES, FIRST):
            for record in records[begin : begin + FIRST]:
                journal.append(record)
            while follower.poll():
                follower.snapshot()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        journal.close()
    assert follower.snapshot().methods[0].requests_done > 50
    # the histories of the gauges and the curve fill up in the first steps, and then only throw away
    assert sizes[-1] - sizes[TIMES // 2] < ALLOWED_BYTES, sizes

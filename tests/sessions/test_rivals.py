"""Several at once: conductors for one session, sessions for one device, and a holder that dies."""

from __future__ import annotations

import threading
from itertools import pairwise

from sessions.disk.records import BlockEnded, BlockStarted, Header
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.run.launch import resume
from tests.sessions.processes import until
from tests.sessions.soundness import assert_completed, assert_sound
from tests.sessions.workplace import Workplace, assert_nothing_left, conductor_of, records_of, runner_of

RIVALS = 6


def spans(folder: SessionFolder) -> list[tuple[int, int]]:
    """From the beginning to the end of each of its blocks, ns."""
    begun, found = 0, []
    for record in records_of(folder):
        if isinstance(record, BlockStarted):
            begun = record.t
        elif isinstance(record, BlockEnded):
            found.append((begun, record.t))
    return found


def test_of_many_that_resume_a_session_one_does_and_the_others_are_told(work: Workplace) -> None:
    work.method("broken", fault="exception", once=str(work.home / "once"))
    folder = work.run("broken")
    said: list[str] = []
    start = threading.Barrier(RIVALS)

    def rival() -> None:
        start.wait()
        try:
            said.append("begun" if resume(folder, work.home) else "nothing is missing")
        except SessionError as error:
            said.append(str(error))

    rivals = [threading.Thread(target=rival) for _ in range(RIVALS)]
    for each in rivals:
        each.start()
    for each in rivals:
        each.join()
    assert said.count("begun") == 1
    assert sum("is running already: `kasoku attach" in sentence for sentence in said) == RIVALS - 1
    assert work.finished(folder) == "finished"
    assert [record.resumed for record in records_of(folder) if isinstance(record, Header)] == [False, True]
    assert_completed(folder)
    assert_sound(folder)


def test_sessions_begun_at_once_measure_one_after_the_other(work: Workplace) -> None:
    work.method("one", rate=200.0)
    folders = [work.launch("one") for _ in range(3)]
    assert [work.finished(folder) for folder in folders] == ["finished"] * 3
    blocks = sorted(span for folder in folders for span in spans(folder))
    assert len(blocks) == 3
    assert all(end < begin for (_, end), (begin, _) in pairwise(blocks))
    for folder in folders:
        assert_completed(folder)
        assert_nothing_left(folder)


def test_a_holder_of_the_device_that_is_killed_lets_it_go(work: Workplace) -> None:
    work.method("slow", rate=20.0)
    first = work.launch("slow", max_new_tokens=1_000)
    until(lambda: runner_of(first), "the first one measures")
    second = work.launch(work.method("quick"))
    until(lambda: any(getattr(record, "name", "") == "device" for record in records_of(second)), "the second one waits")
    conductor_of(first).kill()
    assert work.finished(second) == "finished"
    assert work.finished(first) == "interrupted"
    assert_nothing_left(first)
    assert_completed(second)

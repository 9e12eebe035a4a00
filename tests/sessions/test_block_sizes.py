from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from sessions.disk.plan import PlannedBlock
from sessions.disk.records import AnyRecord, BlockEnded, BlockPhase, BlockStarted, RequestStarted
from sessions.run.block_sizes import LEAST_TIMED_S, MOST_REQUESTS, BlockSizes
from tests.sessions.workplace import Workplace, records_of


def block(number: int, requests: list[int], timed_s: float, status: str = "ok") -> Iterator[AnyRecord]:
    at: dict[str, Any] = {"method": "one", "block": number}
    yield BlockStarted(t=0, position=1, of=1, **at)
    yield RequestStarted(t=0, request=-1, warmup=True, **at)
    yield BlockPhase(t=0, phase="timed", **at)
    for request in requests:
        yield RequestStarted(t=0, request=request, **at)
    yield BlockPhase(t=int(timed_s * 1e9), phase="evidence", **at)
    yield BlockEnded(t=0, status=status, **at)


def sizes(*blocks: Iterator[AnyRecord]) -> BlockSizes:
    made = BlockSizes()
    for records in blocks:
        for record in records:
            made.feed(record)
    return made


def planned(number: int, requests: list[int], method: str = "one") -> PlannedBlock:
    return PlannedBlock(method=method, block=number, requests=requests)


def test_a_first_block_is_as_planned() -> None:
    assert sizes().sized(planned(0, [0, 1]), enough=True) == planned(0, [0, 1])
    assert sizes(block(0, [0, 1], 0.1, "failed")).sized(planned(0, [0, 1]), enough=True) == planned(0, [0, 1])


@pytest.mark.parametrize(
    ("timed_s", "size"),
    [(60.0, 2), (LEAST_TIMED_S, 2), (LEAST_TIMED_S / 2, 4), (LEAST_TIMED_S / 3.9, 8), (0.001, MOST_REQUESTS)],
)
def test_later_blocks_have_as_many_requests_as_the_time_takes(timed_s: float, size: int) -> None:
    after = sizes(block(0, [0, 1], timed_s))

    assert after.sized(planned(1, [2, 3]), enough=True).requests == list(range(2, 2 + size))
    assert after.sized(planned(1, [2, 3]), enough=False).requests == [2, 3]
    assert after.sized(planned(1, [2, 3], "another"), enough=True).requests == [2, 3]


def test_the_size_stays_what_the_first_block_that_counts_made_it() -> None:
    after = sizes(block(0, [0, 1], LEAST_TIMED_S / 3.1), block(1, list(range(2, 8)), 30.0))

    assert after.sized(planned(2, [4, 5]), enough=True).requests == list(range(8, 15))


def test_no_number_is_given_twice_whatever_the_plan_says() -> None:
    after = sizes(block(0, [0, 1], 1.0), block(1, list(range(2, 8)), 3.0))

    assert after.sized(planned(2, [4, 5]), enough=False).requests == [8, 9]
    assert after.sized(planned(9, [18, 19]), enough=False).requests == [18, 19]


def test_a_block_that_is_run_again_may_have_its_own_numbers_again() -> None:
    after = sizes(block(0, [0, 1], 9.0), block(1, [2], 9.0, "stopped"))

    assert after.sized(planned(1, [2, 3]), enough=True).requests == [2, 3]


def test_a_session_that_measures_until_it_is_decided_has_more_in_its_later_blocks(work: Workplace) -> None:
    folder = work.run(work.method("one", rate=100), blocks=3, requests=3, until=0.05)

    numbers: dict[int, list[int]] = {}
    phases: dict[str, int] = {}
    for record in records_of(folder):
        if isinstance(record, RequestStarted):
            numbers.setdefault(record.block, []).append(record.request)
        if isinstance(record, BlockPhase) and record.block == 0:
            phases[record.phase] = record.t
    assert numbers[0] == [0]
    first_s = (phases["evidence"] - phases["timed"]) / 1e9
    assert len(numbers[1]) == len(numbers[2]) == math.ceil(LEAST_TIMED_S / first_s) > 1
    assert [number for block in sorted(numbers) for number in numbers[block]] == list(
        range(sum(map(len, numbers.values())))
    )

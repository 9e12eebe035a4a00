"""What the form says that a run will take, from earlier blocks and from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sessions.disk.plan import Plan
from sessions.disk.store import Store
from tests.tui.conftest import FIRST
from tests.tui.journals import make_plan
from tui.read.expected import EarlierBlock, Expected, earlier_blocks, expected
from tui.read.form_check import Checked
from tui.read.form_words import what_it_takes

A, B = "baseline", "torch-compile"


def plan(blocks: int = 4, **changed: object) -> Plan:
    return replace(make_plan((A, B), requests=2 * blocks, blocks=blocks), **changed)  # type: ignore[arg-type]


BLOCKS = [EarlierBlock(A, 0, 9.0, 100), EarlierBlock(A, 1, 4.0, 300), EarlierBlock(A, 2, 5.0, None)]


def test_first_blocks_count_once_and_a_method_without_blocks_takes_as_long_as_the_others() -> None:
    found = expected(plan(), BLOCKS)
    assert (found.least_s, found.most_s) == (2 * 4 * 4.0, 2 * (9.0 + 3 * 5.0))
    assert (found.methods, found.blocks, found.memory_bytes) == (1, 3, 300)


def test_rounds_until_decided_are_three_at_least_and_end_in_their_time() -> None:
    found = expected(plan(50, until=0.05, at_most=60.0), BLOCKS)
    assert (found.least_s, found.most_s) == (3 * 8.0, 60.0)
    assert expected(plan(50, until=0.05, at_most=10.0), BLOCKS).most_s == 2 * (9.0 + 2 * 5.0)  # three are measured


def test_without_earlier_blocks_nothing_is_known() -> None:
    assert expected(plan(), []) == Expected()


def test_blocks_of_other_sessions_are_scaled_to_the_plans_tokens(saved: Path) -> None:
    store = Store(saved / "sessions")
    earlier = store.folder(FIRST).plan()
    same = earlier_blocks(earlier, store)
    assert {row.method for row in same} == {method.name for method in earlier.methods}
    assert {row.block for row in same} == {0, 1, 2}
    assert {row.memory_bytes for row in same} > {None} or all(row.memory_bytes for row in same)
    longer = replace(earlier, requests=earlier.requests * 10)
    for one, ten in zip(same, earlier_blocks(longer, store), strict=True):
        assert one.seconds < ten.seconds < 10 * one.seconds
    assert earlier_blocks(replace(earlier, model="another"), store) == []
    assert earlier_blocks(replace(earlier, points=[replace(earlier.points[0], batch=4, requests=2)]), store) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Expected(), "unknown before a first run of these methods"),
        (Expected(2, 6, 60.0, 240.0), "60 s to 4 min, by 6 earlier blocks of these methods"),
        (
            Expected(1, 1, 60.0, 60.0, unscored=True),
            "60 s, by 1 earlier block of 1 of the 2 methods; fidelity takes longer",
        ),
        (None, "looking at earlier sessions…"),
    ],
)
def test_time_is_a_range_or_said_to_be_unknown(found: Expected | None, said: str) -> None:
    checked = Checked(plan(), "", (), (), found, weights_bytes=269_000_000, free_bytes=10**10, disk_bytes=5 * 10**9)
    facts = {fact.label: fact.text for fact in what_it_takes(checked)}
    assert facts == {
        "time": said,
        "memory": "weights 269 MB, 10 GB free",
        "disk": "nothing to fetch or make; 5 GB of disk free",
    }


def test_what_is_fetched_and_made_first_is_said_with_its_size() -> None:
    checked = Checked(
        plan(), "", (), (), Expected(), download_bytes=93_000_000, makes=(("torch", "1 GB"), ("mine", ""))
    )
    facts = {fact.label: fact.text for fact in what_it_takes(checked)}
    assert facts["disk"] == "93 MB to fetch for the model; environment torch: 1 GB; environment mine"
    assert "memory" not in facts

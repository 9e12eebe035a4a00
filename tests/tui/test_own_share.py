"""The workbench keeps to its share of a core, whatever a frame costs."""

from __future__ import annotations

import pytest

from tui.own_share import MOST, OwnShare


class Machine:
    """A clock, and what the process has used of it."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def drawn(self, share: OwnShare, frame_s: float, seconds: float) -> int:
        """How many frames of that cost are drawn, where one is asked for every 100 ms."""
        count, end = 0, self.now + seconds
        while self.now < end:
            self.now += 0.1
            if share.is_free():
                count += 1
                self.used += frame_s
        return count


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def share(machine: Machine) -> OwnShare:
    return OwnShare(lambda: machine.now, lambda: machine.used)


def test_cheap_frames_are_drawn_as_often_as_asked(machine: Machine, share: OwnShare) -> None:
    assert machine.drawn(share, 0.012, 60) == pytest.approx(600, abs=1)


def test_dear_frames_take_the_share_and_no_more(machine: Machine, share: OwnShare) -> None:
    machine.drawn(share, 0.03, 60)
    assert 0.9 * MOST < machine.used / 60 < 1.05 * MOST


def test_two_frames_a_second_are_drawn_whatever_they_cost(machine: Machine, share: OwnShare) -> None:
    assert machine.drawn(share, 0.4, 60) == pytest.approx(120, abs=6)


def test_one_burst_does_not_darken_what_follows(machine: Machine, share: OwnShare) -> None:
    machine.drawn(share, 0.012, 10)
    machine.used += 5.0  # a long comparison in a thread of its own
    assert machine.drawn(share, 0.001, 10) > 80

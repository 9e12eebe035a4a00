"""The bounds of a service level objective, as they are typed."""

from __future__ import annotations

import pytest

from sessions.disk.slo import Slo


def test_bounds_are_seconds_by_column() -> None:
    assert dict(Slo.of("ttft:200ms, TPOT:0.05 s,e2e:5s").bounds) == pytest.approx(
        {"ttft_s": 0.2, "tpot_s": 0.05, "e2e_s": 5.0}
    )


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft:", "ttft:200", "ttft:0ms", "ttft:-1s", "ttft:nan", "itl:5ms", "ttft:1s,"]
)
def test_what_is_no_bound_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is not a bound of ttft, tpot, e2e, such as"):
        Slo.of(text)


def test_two_bounds_of_one_latency_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="ttft has two bounds"):
        Slo.of("ttft:1s,ttft:2s")

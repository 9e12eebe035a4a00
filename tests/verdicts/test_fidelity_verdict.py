"""The floor and the words on a method's fidelity."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from sessions.verdict.fidelity_figures import Figures
from sessions.verdict.fidelity_floor import Floor, floor_key, floor_of, keep, kept_for, known
from sessions.verdict.fidelity_verdict import judge, not_measured
from sessions.verdict.fidelity_words import flipped, nats, nats_range
from sessions.verdict.statistics import t_quantile
from tests.verdicts.made_windows import TOKENS, figures, window

FLOOR = Floor(nats=0.006, flips=0.005, methods=["baseline", "library-default"], session="s", windows=8)
AROUND = (-0.001, 0.001) * 8


def said(own: Figures, floor: Floor | None = FLOOR) -> tuple[str, str]:
    verdict = judge(own, own, floor)
    return verdict.kind, verdict.sentence


def test_within_the_floor_no_loss_is_found() -> None:
    kind, sentence = said(figures([0.002 + each for each in AROUND]))
    assert kind == "no loss found"
    assert sentence == "no loss found: at most 0.0026 nats a token, below the floor of 0.0060"


def test_beyond_it_the_loss_is_said_with_its_interval_and_the_flips() -> None:
    kind, sentence = said(figures([0.021 + 5 * each for each in AROUND], equal=124))
    assert kind == "differs"
    assert sentence == "differs by 0.021 nats a token (0.018–0.024), 3 % of confident tokens flip"


def test_a_gain_beyond_the_floor_is_a_difference_too() -> None:
    kind, sentence = said(figures([-0.05 + each for each in AROUND]))
    assert kind == "differs"
    assert sentence.startswith("differs by −0.050 nats a token (−0.051 to −0.049)")


def test_an_interval_across_the_floor_decides_nothing() -> None:
    kind, sentence = said(figures([0.006 + 3 * each for each in AROUND]))
    assert kind == "open"
    assert sentence == "not decided: 0.0060 nats a token (0.0043–0.0077), which reaches beyond the floor of 0.0060"


def test_flips_outside_near_ties_are_evidence_where_the_loss_is_not() -> None:
    kind, sentence = said(figures(AROUND, equal=122))
    assert kind == "differs"
    assert sentence.startswith("differs: 5 % of confident tokens flip, though the loss of 0.0000")


ROUNDING = (0.0017, 0.0019) * 8  # what a kernel that rounds otherwise diverges by, window by window
TEXTS = [0.0002 * 1.4**place for place in range(16)]  # the same of texts that differ, the last of them 150 times as far


@pytest.mark.parametrize(("times", "kind"), [(1.1, "no loss found"), (1.2, "no loss found"), (1.3, "differs")])
@pytest.mark.parametrize("rounding", [ROUNDING, TEXTS])
def test_a_divergence_beyond_the_floors_in_the_same_windows_is_evidence_where_the_loss_is_not(
    times: float, kind: str, rounding: Sequence[float]
) -> None:
    floor = floor_of({"library-default": figures(AROUND, kl=rounding)}, "s", 16)
    assert floor is not None
    found, sentence = said(figures(AROUND, kl=[times * each for each in rounding]), floor)
    assert found == kind
    if kind == "differs":
        assert sentence.startswith("differs: it diverges 1.3 times as far as the floor, though the loss of 0.0000 nats")


@pytest.mark.parametrize(("times", "kind"), [(1.3, "no loss found"), (2.0, "no loss found"), (3.0, "differs")])
def test_of_other_windows_the_mean_divergence_has_to_be_further_off(times: float, kind: str) -> None:
    elsewhere = Figures(
        tuple(dataclasses.replace(each, nll_reference=7.0) for each in figures(AROUND, kl=ROUNDING).windows)
    )
    floor = floor_of({"library-default": elsewhere}, "s", 16)
    assert floor is not None
    assert floor.divergence == pytest.approx(0.0018 + t_quantile(0.95, 15) * 0.0001 / math.sqrt(15))
    found, sentence = said(figures(AROUND, kl=[times * each for each in ROUNDING]), floor)
    assert found == kind
    if kind == "differs":
        assert sentence.startswith("differs: it diverges 2.9 times as far as the floor, though the loss of 0.0000 nats")


def test_a_floor_that_has_not_all_of_a_methods_windows_is_not_paired_with_it() -> None:
    """The fault may be in the others: a method of the floor was stopped while it was scored."""
    some = Figures(figures(AROUND, kl=ROUNDING).windows[:8])
    floor = floor_of({"library-default": some}, "s", 8)
    assert said(figures(AROUND, kl=[*ROUNDING[:8], *(9 * each for each in ROUNDING[8:])]), floor)[0] == "differs"


def test_a_sessions_own_floor_is_paired_over_all_windows_though_half_of_them_make_it() -> None:
    whole = figures(AROUND, kl=TEXTS)
    half = whole.half("even")
    assert half is not None
    floor = floor_of({"library-default": half}, "s", 8, {"library-default": whole})
    assert floor is not None
    assert [each.number for each in floor.by_window] == list(range(16))
    assert floor.nats == floor_of({"library-default": half}, "s", 8).nats  # type: ignore[union-attr]


def test_a_floor_that_was_kept_without_a_divergence_judges_by_the_loss_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    kept = {"key": {"prefill": {"nats": 0.006, "flips": 0.005, "methods": ["baseline"], "session": "s", "windows": 8}}}
    (tmp_path / "cache" / "fidelity-floors.json").write_text(json.dumps(kept))
    floor = known(tmp_path)["key"]["prefill"]
    assert said(figures(AROUND, kl=[1.0] * 16), floor)[0] == "no loss found"


def test_without_a_floor_there_is_the_figure_and_how_to_get_one() -> None:
    kind, sentence = said(figures([0.002 + each for each in AROUND]), None)
    assert kind == "no floor"
    assert "0.0020 nats a token (0.0014–0.0026)" in sentence
    assert sentence.endswith("no floor is known here: `kasoku calibrate --fidelity`")


def test_the_reference_against_itself_needs_no_floor() -> None:
    same = Figures(tuple(window(n, 0.0, worst=0.0) for n in range(16)))
    assert said(same, None) == ("identical", f"no loss found: all {16 * TOKENS} scores are the reference's")


def test_scores_that_are_no_numbers_are_said_to_be_that() -> None:
    broken = Figures((*figures(AROUND).windows, window(16, math.nan, non_finite=5)))
    assert said(broken) == ("differs", f"differs: 5 of {17 * TOKENS} scores are not finite numbers")
    assert not_measured("the engine hands out no logits").sentence == (
        "cannot be measured here: the engine hands out no logits"
    )


def test_the_floor_is_where_the_interval_of_no_loss_would_end() -> None:
    floor = floor_of({"a": figures([0.001 + each for each in AROUND])}, "s", judged=8)
    assert floor is not None
    spread = 0.001 * math.sqrt(16 / 15)
    reach = 0.001 + t_quantile(0.95, 7) * spread * (math.sqrt(1 / 16 + 1 / 8) + 1 / math.sqrt(8))
    assert floor.nats == pytest.approx(reach)
    assert floor.methods == ["a"]
    assert floor.flips == pytest.approx(3.84 / (16 * TOKENS), rel=0.01)  # Wilson's, where none flips


def test_the_floor_is_the_largest_of_its_methods() -> None:
    small, large = figures(AROUND), figures([3 * each for each in AROUND], equal=127)
    both, alone = floor_of({"a": small, "b": large}, "s", 16), floor_of({"b": large}, "s", 16)
    assert both is not None
    assert alone is not None
    assert (both.nats, both.flips) == (alone.nats, alone.flips)


def test_the_reference_alone_makes_no_floor() -> None:
    assert floor_of({"baseline": figures([0.0] * 16)}, "s", 8) is None
    assert floor_of({}, "s", 8) is None
    assert floor_of({"a": figures([0.1, 0.2])}, "s", 8) is None


def test_floors_are_kept_by_device_environment_and_model(tmp_path: Path) -> None:
    assert known(tmp_path) == {}
    keep(tmp_path, floor_key("cpu 2 threads", "torch", "aa"), {"prefill": FLOOR})
    keep(tmp_path, floor_key("cpu 2 threads", "torch", "bb"), {"decode": FLOOR})
    kept = known(tmp_path)
    assert kept_for(kept, "cpu 2 threads", "torch", "aa") == {"prefill": FLOOR}
    assert kept_for(kept, "cpu 2 threads", None, "bb") == {"decode": FLOOR}
    assert kept_for(kept, "cpu 2 threads", "article-2024", "aa") is None
    assert kept_for(kept, "cpu 4 threads", None, "aa") is None
    (tmp_path / "cache" / "fidelity-floors.json").write_bytes(b"\xff{")
    assert known(tmp_path) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (-0.00001, "0.0000"),
        (-0.0012, "−0.0012"),
        (0.0212, "0.021"),
        (0.00999, "0.010"),
        (1.837, "1.84"),
    ],
)
def test_nats_have_the_digits_that_matter(value: float, text: str) -> None:
    assert nats(value) == text


def test_ranges_and_flips_in_words() -> None:
    assert nats_range(0.018, 0.024) == "0.018–0.024"
    assert nats_range(-0.001, 0.02) == "−0.0010 to 0.020"
    assert [flipped(each) for each in (0.0, 0.0004, 0.012, 0.0297, 0.31)] == [
        "0 %",
        "under 0.1 %",
        "1.2 %",
        "3 %",
        "31 %",
    ]

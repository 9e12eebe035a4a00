"""The answer of a comparison in sentences: it claims no more than the verdicts do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from sessions.verdict.comparison import Comparison
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.statistics import LogRatio
from sessions.verdict.verdicts import judge, says_faster
from tui.widgets.answer_lines import AnswerLines
from tui.words.answer import answer, headline

BASE = ComparisonRow(
    "s", "base", None, 6, 3, 100.0, tok_s_low=95.0, tok_s_high=105.0, verdict="the reference", status="ok"
)
FAST = replace(
    BASE,
    method="fast",
    reference="base",
    tok_s_mean=300.0,
    tok_s_low=290.0,
    tok_s_high=310.0,
    ratio=3.0,
    ratio_low=2.9,
    ratio_high=3.1,
    verdict="3.00× faster, 2.90–3.10",
)
OPEN = replace(
    FAST,
    method="open",
    reference="fast",
    tok_s_mean=400.0,
    tok_s_low=100.0,
    tok_s_high=700.0,
    ratio=1.33,
    ratio_low=0.5,
    ratio_high=3.0,
    verdict="too few blocks to say: about 9 more would do",
)


def told(*rows: ComparisonRow, **more: object) -> str:
    return " ".join(sentence for sentence, _ in answer(Comparison(rows, **more)))  # type: ignore[arg-type]


def test_the_fastest_is_said_with_its_ratio_its_interval_and_its_rate() -> None:
    said = told(BASE, FAST)
    assert said.startswith("fast is the fastest: 3.00× base (2.90–3.10), 300.0 tokens/s.")
    assert "How sure: 3 blocks of fresh processes a method." in said
    assert "doubt" not in said


def test_a_higher_mean_that_is_open_is_no_winner_and_is_not_hidden() -> None:
    said = told(BASE, FAST, OPEN)
    assert said.startswith("fast is the fastest that is certain: 3.00× base")
    assert "open came out at 400.0 tokens/s, but against fast that is open: too few blocks to say" in said


def test_one_whose_interval_overlaps_may_be_as_fast() -> None:
    near = replace(FAST, method="near", tok_s_mean=295.0, tok_s_low=285.0, tok_s_high=305.0)
    assert "near may be as fast: its interval overlaps." in told(BASE, FAST, near)


def test_what_was_not_in_effect_is_never_the_fastest_and_is_doubted() -> None:
    said = told(BASE, replace(FAST, in_effect=False))
    assert said.startswith("base reached 100.0 tokens/s.")
    assert "What to doubt: fast was NOT in effect." in said


def test_without_a_verdict_nothing_is_claimed() -> None:
    assert headline(Comparison((BASE, replace(OPEN, reference="base")))).startswith(
        "Nothing was shown to be faster than base; open came closest: too few blocks to say"
    )
    assert headline(Comparison((BASE, replace(FAST, tok_s_mean=50.0, verdict="2.00× slower, 1.9–2.1")))).startswith(
        "Nothing was faster than base, which reached 100.0 tokens/s."
    )
    alone = replace(FAST, ratio=None, ratio_low=None, ratio_high=None, verdict="no block to compare with base")
    both = Comparison((alone, replace(alone, method="other", tok_s_mean=200.0)))
    missing = "fast has the highest mean, 300.0 tokens/s, but base, which it is compared with, was not measured here"
    assert headline(both) == f"{missing}."  # other screens say it too, which have no such key
    assert told(*both.rows).startswith(f"{missing}: b compares with another.")
    nothing = Comparison((replace(BASE, tok_s_mean=None, problem="oom"),))
    assert "rows below say why" in answer(nothing)[0][0]
    assert headline(nothing) == ""  # other screens have no such rows


def test_the_loss_and_the_doubts_are_those_of_the_fastest() -> None:
    said = told(BASE, replace(FAST, fidelity_decode="no loss found", flags=("throttled: 3 s",)), refused=("dtype",))
    assert "At what loss: no loss found." in said
    assert "What to doubt: the sessions differ in dtype; throttled: 3 s." in said
    assert "that was not measured" in told(BASE, FAST, unscored=("s",))


def test_a_verdicts_sentence_says_whether_it_is_faster() -> None:
    for mean in (1.0, 0.0, -1.0):
        (verdict,) = judge([LogRatio(mean, 0.01, 4.0, 5)])
        assert says_faster(verdict.sentence) == (verdict.kind == "faster")


@pytest.mark.parametrize("width", [78, 116])
def test_a_wide_interval_is_said_whole(width: int) -> None:
    wide = replace(FAST, ratio=5.52, ratio_low=0.15, ratio_high=201.13)
    lines = AnswerLines()
    lines.show_comparison(Comparison((BASE, wide)))
    drawn = ["".join(text for text, _ in line) for line in lines.draw(width)]
    assert any("5.52 (0.15–201.13)" in line for line in drawn)
    assert all(cell_len(line) <= width for line in drawn)

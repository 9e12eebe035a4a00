"""The Session screen's tab of fidelity: every figure of each path and stratum."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tui.conftest import FIRST, workbench
from tests.tui.screen_text import until
from tests.verdicts.made_store import make_session
from tests.verdicts.made_windows import Losses, add_fidelity


@pytest.mark.parametrize("size", [(80, 48), (132, 60)])
async def test_the_tab_has_both_paths_and_strata_or_the_reason(tmp_path: Path, size: tuple[int, int]) -> None:
    made = make_session(tmp_path / "sessions", {"base": [100.0] * 3, "fast": [300.0, 301.0, 299.0]})
    half = [0.01, 0.02, 0.03, 0.02] * 2
    losses: Losses = {
        "fast": {"prefill": [*half, *(2 * each for each in half)], "decode": "the engine takes no id"},
        "base": {"prefill": [0.0] * 16, "decode": [0.0] * 16},
    }
    add_fidelity(made, losses, flips={"fast": 16})
    async with workbench(tmp_path).run_test(size=size) as pilot:
        pilot.app.open_session(made.id)  # type: ignore[attr-defined]
        await until(pilot, lambda text: "requests  timeline  fidelity" in text, "the tab")
        await pilot.press("left")
        text = await until(pilot, lambda text: "perplexity ×" in text and "● base" in text, "the figures")
    fast, base = text.split("● base")
    assert re.search(r"prefill\n +all +text +greedy\n", fast)
    assert re.search(r"windows +16 +8 +8\n", fast)
    assert re.search(r"ΔNLL +0\.030 +0\.020 +0\.040\n", fast)
    assert re.search(r"confident +87\.50 % +87\.50 % +87\.50 %\n", fast)
    assert re.search(r"largest +0\.060 +0\.030 +0\.060\n", fast)
    assert re.search(r"KL +0\.015 +0\.010 +0\.020\n", fast)
    assert "KL, at least" not in fast
    assert re.search(r"prefill +decoding\n +all +text +greedy +all +text +greedy\n", base)
    assert "nats a token; confident tokens are those" in re.sub(r"\s+", " ", base)


async def test_a_session_that_was_not_scored_has_no_such_tab(saved: Path) -> None:
    async with workbench(saved).run_test(size=(120, 40)) as pilot:
        pilot.app.open_session(FIRST)  # type: ignore[attr-defined]
        text = await until(pilot, lambda text: "first look · finished" in text, "the overview")
        assert "fidelity" not in text.splitlines()[1]
        await pilot.press("left")
        await until(pilot, lambda text: "tokens/s of each request" in text, "the timeline, which is the last")

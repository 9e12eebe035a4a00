"""Scored windows with the loss that a test wants, in figures and as rows of the fidelity frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import polars as pl

from sessions.disk.frame_schema import FIDELITY
from sessions.disk.session_folder import SessionFolder
from sessions.verdict.fidelity_figures import Figures, Window

TOKENS = 128
REFERENCE = 2.0  # nats a token


def window(
    number: int,
    loss: float,
    *,
    tokens: int = TOKENS,
    stratum: str = "text",
    equal: int | None = None,
    kl: float | None = None,
    worst: float = 0.5,
    non_finite: int = 0,
) -> Window:
    """One window with that loss, in nats a token."""
    hits = tokens if equal is None else equal
    return Window(
        number=number,
        stratum=stratum,
        tokens=tokens,
        nll=tokens * (REFERENCE + loss),
        nll_reference=tokens * REFERENCE,
        equal=hits,
        equal_clear=hits,
        clear=tokens,
        kl=kl,
        worst=worst,
        non_finite=non_finite,
    )


def figures(losses: Sequence[float], *, equal: int | None = None, kl: Sequence[float] | None = None) -> Figures:
    """Windows with these losses, and divergences, in nats a token; the first half of them is text."""
    half = len(losses) // 2
    return Figures(
        tuple(
            window(
                number,
                loss,
                stratum="text" if number < half else "greedy",
                equal=equal,
                kl=None if kl is None else kl[number] * TOKENS,
            )
            for number, loss in enumerate(losses)
        )
    )


Losses = Mapping[str, Mapping[str, Sequence[float] | str]]  # method -> path -> losses of its windows, or why none


def add_fidelity(folder: SessionFolder, losses: Losses, *, flips: Mapping[str, int] | None = None) -> None:
    """Write a session's fidelity frame: block 0 of each method was scored, `flips` tokens of each window amiss."""
    rows: list[dict[str, object]] = []
    for method, paths in losses.items():
        for path, each in paths.items():
            place = {"session": folder.id, "method": method, "block": 0, "attempt": 0, "path": path}
            if isinstance(each, str):
                rows.append({**place, "missing": json.dumps({"nll": each})})
                continue
            rows += [{**place, **_row(own, (flips or {}).get(method, 0))} for own in figures(each).windows]
    pl.DataFrame(rows, schema=FIDELITY).write_parquet(folder.frame("fidelity"))


def _row(own: Window, flips: int) -> dict[str, object]:
    loss = (own.nll - own.nll_reference) / own.tokens
    return {
        "window": own.number,
        "stratum": own.stratum,
        "tokens": own.tokens,
        "nll": own.nll,
        "nll_reference": own.nll_reference,
        "top1_equal": own.tokens - flips,
        "top1_equal_clear": own.tokens - flips,
        "clear_tokens": own.tokens,
        "kl": abs(loss) * own.tokens / 2,
        "worst": abs(loss),
        "non_finite": 0,
        "nll_each": [REFERENCE + loss] * own.tokens,
        "nll_reference_each": [REFERENCE] * own.tokens,
        "missing": "{}",
    }
